"""Commands: the same functions as REST calls, and the same answers."""

from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api import moving
from api.bodies import Cancellation, _Body
from api.bus.answers import event_document
from api.bus.binding import read_plain
from api.bus.events import publish_all
from api.documents import job_document
from api.errors import model_flaws, problem_of
from api.problems import Problem
from api.submission_bodies import NewJob
from api.submitting import submit_one
from api.ws.frames import Command
from api.ws.session import Session
from jobs.errors import JobsError
from jobs.keys.scopes import Scope
from jobs.views import JobView

_SCOPES = {
    "job.submit": Scope.JOBS_WRITE,
    "job.cancel": Scope.JOBS_WRITE,
    "job.retry": Scope.JOBS_WRITE,
    "event.publish": Scope.EVENTS_WRITE,
}


class _Cancel(Cancellation):
    job_id: str


class _Retry(_Body):
    job_id: str


async def answer(session: Session, frame: Command) -> None:
    """The command was done, or refused, and the client knows. Ended."""
    try:
        session.principal.require(_SCOPES[frame.op])
        body, status = await _do(session, frame)
    except ValidationError as error:
        await session.send_error(frame.id, model_flaws(error, frame.body))
    except Problem as problem:
        await session.send_error(frame.id, problem)
    except JobsError as error:
        await session.send_error(frame.id, problem_of(error))
    else:
        await session.send({"type": "result", "id": frame.id, "status": status, "body": body})


async def _do(session: Session, frame: Command) -> tuple[dict[str, Any], int]:
    """The answer's body and status."""
    parts, principal = session.parts, session.principal
    if frame.op == "event.publish":
        event = read_plain(frame.body, principal.project_id, frame.idempotency_key)
        (published,) = await publish_all(parts, principal, [event])
        return event_document(published.event), 202 if published.is_new else 200
    job, status = await _move(session, frame)
    return job_document(job, parts.settings.flower_url), status


async def _move(session: Session, frame: Command) -> tuple[JobView, int]:
    parts, principal = session.parts, session.principal
    match frame.op:
        case "job.submit":
            submission = NewJob.model_validate(frame.body).submission()
            accepted = await submit_one(parts, principal, submission, frame.idempotency_key)
            return accepted.jobs[0], 200 if accepted.found else 202
        case "job.cancel":
            asked = _Cancel.model_validate(frame.body)
            return await moving.cancel(parts, session.actor, _job_id(asked.job_id), asked.reason)
        case _:
            job_id = _job_id(_Retry.model_validate(frame.body).job_id)
            return await moving.retry(parts, session.actor, job_id), 202


def _job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem("job-not-found", f"no job {text}") from None
