"""Child jobs: what a handler submits, once, however often its job is attempted."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import Connection
from sqlmodel import col

from jobs.enqueue import Accepted, Intake, enqueue
from jobs.errors import InvalidSubmission, LeaseLost
from jobs.lifecycle import Claim, Moved
from jobs.models import Job
from jobs.registry import Registry
from jobs.states import JobState
from jobs.submissions import NewJob, Submission, check
from jobs.views import JobView
from lading.args import as_json
from lading.durations import as_timedelta
from lading.outcomes import Fail

_DURATIONS = ("delay", "timeout", "expires_in")


@dataclass(frozen=True, slots=True)
class Parent:
    """The attempt that submits."""

    claim: Claim
    process_id: UUID  #: whose intake it is counted in


def child_id(parent: UUID, number: int) -> UUID:
    """The id of a job's n-th child: a UUIDv7 of the parent's time and of both's hash (RFC 9562).

    So it is the same on every attempt, and lies beside its parent in the index.
    """
    digest = hashlib.sha256(parent.bytes + number.to_bytes(8)).digest()
    value = int.from_bytes(parent.bytes[:6] + digest[:10])
    return UUID(int=value & ~(0xF << 76 | 0b11 << 62) | 0x7 << 76 | 0b10 << 62)


def checked(
    registry: Registry,
    child: tuple[UUID, int],
    kind: str,
    args: BaseModel | Mapping[str, Any],
    options: Mapping[str, Any],
) -> NewJob:
    """The child, the n-th of that job, as it would be inserted.

    Fail when the kind is unknown or something is refused.
    """
    durations = {
        name: as_timedelta(options[name]) for name in _DURATIONS if options.get(name) is not None
    }
    submission = Submission(
        kind=kind, args=as_json(args), parent_id=child[0], **{**options, **durations}
    )
    try:
        return check(registry, submission, job_id=child_id(*child))
    except InvalidSubmission as error:
        raise Fail(f"a child job is refused: {error}") from error


def submit(connection: Connection, parent: Parent, child: NewJob) -> list[Moved]:
    """The child exists. The event that made it, if it was made now; the caller commits.

    LeaseLost when the attempt does not hold its job; it keeps it until the end of the transaction.
    """
    claim = parent.claim
    held = sa.select(sa.true()).where(
        col(Job.id) == claim.id,
        col(Job.attempt) == claim.attempt,
        col(Job.state) == JobState.RUNNING,
    )
    if connection.execute(held.with_for_update(key_share=True)).first() is None:
        raise LeaseLost(claim.id, claim.attempt)
    exists = sa.select(sa.true()).where(col(Job.id) == child.id)
    if connection.execute(exists).first() is not None:
        return []
    intake = Intake(claim.project_id, [child])
    (accepted,) = enqueue(connection, [intake], process_id=parent.process_id)
    assert isinstance(accepted, Accepted)  # without a key nothing is refused
    return [_created(claim.project_id, job) for job in accepted.jobs]


def _created(project_id: str, job: JobView) -> Moved:
    return Moved(
        id=job.id,
        project_id=project_id,
        queue=job.queue,
        state=job.state,
        attempt=0,
        cancel_requested=False,
        seq=1,
        type="created",
        at=job.created_at,
        data={"state": job.state},
    )
