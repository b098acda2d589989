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

from jobs.enqueue import Accepted, Intake, created, enqueue
from jobs.errors import Flaw, InvalidSubmission, LeaseLost
from jobs.lifecycle import Claim, Moved
from jobs.models import Job
from jobs.registry import Registry
from jobs.states import JobState
from jobs.submissions import NewJob, Submission, Unique, check
from lading.args import as_json
from lading.durations import as_timedelta
from lading.outcomes import Fail

_DURATIONS = {"delay", "timeout", "expires_in"}
OPTIONS = _DURATIONS | {
    *("queue", "priority", "run_at", "max_attempts", "labels", "unique", "after"),
}


@dataclass(frozen=True, slots=True)
class Parent:
    """The attempt that submits."""

    claim: Claim
    process_id: UUID  #: whose intake it is counted in


def child_id(parent: UUID, number: int, part: str = "") -> UUID:
    """The id of a job's n-th child: a UUIDv7 of the parent's time and of all's hash (RFC 9562).

    `part` is the step or transaction in which it is the n-th. So the id is the same on every
    attempt, and lies beside its parent in the index.
    """
    digest = hashlib.sha256(parent.bytes + number.to_bytes(8) + part.encode()).digest()
    value = int.from_bytes(parent.bytes[:6] + digest[:10])
    return UUID(int=value & ~(0xF << 76 | 0b11 << 62) | 0x7 << 76 | 0b10 << 62)


def checked(
    registry: Registry,
    ids: tuple[UUID, UUID],
    kind: str,
    args: BaseModel | Mapping[str, Any],
    options: Mapping[str, Any],
) -> NewJob:
    """The child as it would be inserted; `ids` are its parent's and its own.

    Fail when the kind is unknown or something is refused, by the bounds of every submission.
    """
    parent_id, job_id = ids
    try:
        submission = Submission(
            kind=kind, args=as_json(args), parent_id=parent_id, **_read(options)
        )
        return check(registry, submission, job_id=job_id)
    except InvalidSubmission as error:
        raise Fail(f"a child job is refused: {error}") from error


def _read(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as a Submission has them; None takes the default."""
    flaws = [
        Flaw(f"#/{name}", "there is no such option") for name in options if name not in OPTIONS
    ]
    given = {name: value for name, value in options.items() if value is not None}
    for name in _DURATIONS & given.keys():
        try:
            given[name] = as_timedelta(given[name])
        except ValueError as error:
            flaws.append(Flaw(f"#/{name}", str(error)))
    if "unique" in given:
        try:
            given["unique"] = Unique(**given["unique"])
        except TypeError as error:
            flaws.append(Flaw("#/unique", str(error)))
    if flaws:
        raise InvalidSubmission(*flaws)
    return given


def hold(connection: Connection, claim: Claim) -> None:
    """The attempt keeps its job until the end of the transaction. LeaseLost: it has it no more."""
    held = sa.select(sa.true()).where(
        col(Job.id) == claim.id,
        col(Job.attempt) == claim.attempt,
        col(Job.state) == JobState.RUNNING,
    )
    if connection.execute(held.with_for_update(key_share=True)).first() is None:
        raise LeaseLost(claim.id, claim.attempt)


def submit(connection: Connection, parent: Parent, child: NewJob) -> tuple[UUID, list[Moved]]:
    """The child exists, or another job that has its unique key: its id, and what has happened.

    The caller commits. LeaseLost when the attempt does not hold its job; it keeps it until the end
    of the transaction. Fail when it is refused: the key is taken, or there is no such parent.
    """
    claim = parent.claim
    hold(connection, claim)
    exists = sa.select(sa.true()).where(col(Job.id) == child.id)
    if connection.execute(exists).first() is not None:
        return child.id, []
    intake = Intake(claim.project_id, [child])
    (accepted,) = enqueue(connection, [intake], process_id=parent.process_id)
    if not isinstance(accepted, Accepted):
        raise Fail(f"a child job is refused: {accepted}")
    moved = [created(claim.project_id, job) for job in accepted.made]
    return accepted.jobs[0].id, accepted.moved + moved
