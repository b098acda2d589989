"""What people and programs ask of a job that exists: end, start again, do not wait."""

import re
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from jobs.errors import InvalidTransition, JobNotFound, UniqueConflict
from jobs.lifecycle.statements import SINGLE, Moved
from jobs.models import UNIQUE_INDEXES, Job
from jobs.rules import OTHER, has_key_of
from jobs.states import FINAL, JobState, Move


def cancel(connection: Connection, project_id: str, job_id: UUID, reason: str) -> Moved | None:
    """The job is cancelled, or, while it runs, asked to end; None: that was so already."""
    binds = {"facts": {"reason": reason}, "reason": reason}
    for _ in range(3):  # it may start, or end an attempt, between two of these statements
        for move in (Move.CANCEL, Move.REQUEST_CANCEL):
            moved = _ask(connection, project_id, job_id, move, **binds)
            if moved is not None:
                return moved
        current, requested = _current(connection, project_id, job_id)
        if current is JobState.CANCELLED or (current is JobState.RUNNING and requested):
            return None
        if current in FINAL:
            break
    raise InvalidTransition(job_id, current, "cancel")


def cancel_idle(connection: Connection, project_id: str, job_id: UUID, reason: str) -> Moved | None:
    """The job is cancelled if it does not run; None: it does, has ended, or is not there."""
    return _ask(connection, project_id, job_id, Move.CANCEL, facts={"reason": reason})


def retry(connection: Connection, project_id: str, job_id: UUID) -> Moved:
    """The job may start again at once: both budgets are 0, a cancel request is forgotten.

    UniqueConflict when another job has its unique key by now; then, if that came at this very
    moment, the transaction has failed.
    """
    try:
        moved = _ask(connection, project_id, job_id, Move.RETRY)
    except IntegrityError as error:
        raise _conflict(error) from error
    if moved is not None:
        return moved
    current, _ = _current(connection, project_id, job_id)
    if current in Move.RETRY.sources:
        holder = connection.execute(_HOLDER, {"job": job_id}).first()
        if holder is not None:
            raise UniqueConflict(holder.unique_key, holder.id)
    raise InvalidTransition(job_id, current, "retry")


def run_now(connection: Connection, project_id: str, job_id: UUID) -> Moved:
    """The job may start at once, whatever its `run_at` was."""
    return _asked(connection, project_id, job_id, Move.RUN_NOW, "run-now")


def _ask(
    connection: Connection, project_id: str, job_id: UUID, move: Move, **binds: Any
) -> Moved | None:
    binds = {"job": job_id, "project": project_id, "facts": {}, **binds}
    row = connection.execute(SINGLE[move], binds).first()
    return None if row is None else Moved(*row)


def _asked(connection: Connection, project_id: str, job_id: UUID, move: Move, verb: str) -> Moved:
    moved = _ask(connection, project_id, job_id, move)
    if moved is None:
        raise InvalidTransition(job_id, _current(connection, project_id, job_id)[0], verb)
    return moved


def _conflict(error: IntegrityError) -> Exception:
    """What PostgreSQL says when the key was taken between the statement's look and its write."""
    diagnostic = getattr(error.orig, "diag", None)
    if getattr(diagnostic, "constraint_name", None) not in UNIQUE_INDEXES:
        return error
    said = re.search(r"=\(.*?, (.*)\)", getattr(diagnostic, "message_detail", None) or "")
    return UniqueConflict(said.group(1) if said else "", None)


def _current(connection: Connection, project_id: str, job_id: UUID) -> tuple[JobState, bool]:
    statement = sa.select(col(Job.state), col(Job.cancel_requested)).where(
        col(Job.id) == job_id, col(Job.project_id) == project_id
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return row[0], row[1]


_HOLDER = sa.select(OTHER.c.id, OTHER.c.unique_key).where(
    col(Job.id) == sa.bindparam("job", type_=sa.Uuid), has_key_of(OTHER)
)
