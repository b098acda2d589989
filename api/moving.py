"""What may be asked of a job that exists: what REST and the WebSocket's commands share."""

from uuid import UUID

from api.parts import Parts
from jobs import lifecycle
from jobs.lifecycle import Moved
from jobs.queries import get_job
from jobs.states import JobState
from jobs.trail.record import Actor, Deed
from jobs.views import JobView

NO_REASON = "requested"  #: stands where nobody said why


async def cancel(
    parts: Parts, actor: Actor, job_id: UUID, reason: str | None
) -> tuple[JobView, int]:
    """The job is cancelled, or asked to end while it runs: as it is now, and the HTTP status.

    202; 200 when it was cancelled before. JobNotFound, InvalidTransition.
    """
    project_id = actor.project_id
    said = reason or NO_REASON

    def deed(moved: Moved | None) -> Deed | None:
        return None if moved is None else Deed("job.cancel", job_id, {"reason": reason})

    moved = await parts.database.change(actor, deed, lifecycle.cancel, project_id, job_id, said)
    if moved is not None:
        parts.hints.tell([moved])
    job = await parts.database.run(get_job, project_id, job_id)
    was_so = moved is None and job.state is JobState.CANCELLED
    return job, 200 if was_so else 202


async def retry(parts: Parts, actor: Actor, job_id: UUID) -> JobView:
    """The job may start again at once, with fresh budgets. JobNotFound, InvalidTransition."""
    project_id = actor.project_id
    deed = Deed("job.retry", job_id)
    parts.hints.tell(
        [await parts.database.change(actor, deed, lifecycle.retry, project_id, job_id)]
    )
    return await parts.database.run(get_job, project_id, job_id)


async def run_now(parts: Parts, actor: Actor, job_id: UUID) -> JobView:
    """The job may start at once, whatever its time was. JobNotFound, InvalidTransition."""
    project_id, deed = actor.project_id, Deed("job.run-now", job_id)
    moved = await parts.database.change(actor, deed, lifecycle.run_now, project_id, job_id)
    parts.hints.tell([moved])
    return await parts.database.run(get_job, project_id, job_id)
