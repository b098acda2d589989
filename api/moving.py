"""What may be asked of a job that exists: what REST and the WebSocket's commands share."""

from uuid import UUID

from api.keyring import Principal
from api.parts import Parts
from jobs import lifecycle
from jobs.queries import get_job
from jobs.states import JobState
from jobs.views import JobView

NO_REASON = "requested"  #: stands where nobody said why


async def cancel(
    parts: Parts, principal: Principal, job_id: UUID, reason: str | None
) -> tuple[JobView, int]:
    """The job is cancelled, or asked to end while it runs: as it is now, and the HTTP status.

    202; 200 when it was cancelled before. JobNotFound, InvalidTransition.
    """
    project_id = principal.project_id
    said = reason or NO_REASON
    moved = await parts.database.run(lifecycle.cancel, project_id, job_id, said)
    if moved is not None:
        parts.hints.tell([moved])
    job = await parts.database.run(get_job, project_id, job_id)
    was_so = moved is None and job.state is JobState.CANCELLED
    return job, 200 if was_so else 202


async def retry(parts: Parts, principal: Principal, job_id: UUID) -> JobView:
    """The job may start again at once, with fresh budgets. JobNotFound, InvalidTransition."""
    project_id = principal.project_id
    parts.hints.tell([await parts.database.run(lifecycle.retry, project_id, job_id)])
    return await parts.database.run(get_job, project_id, job_id)
