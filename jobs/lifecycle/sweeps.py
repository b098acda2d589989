"""What time brings about: at most `limit` jobs a call, those that are locked left out."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.attempts import UNKNOWN_USAGE, WORKER_LOST, Cause, Error, Outcome
from jobs.direct import Direct
from jobs.lifecycle.reports import crash_facts, usage_binds
from jobs.lifecycle.statements import Moved, overdue, statement_of, written
from jobs.models import Job
from jobs.rules import DUE, LEFT, NOW, WANTED, bind
from jobs.states import JobState, Move


def release_due(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` scheduled and retrying jobs whose time has come may start."""
    return _sweep(connection, _RELEASE_DUE, limit)


def expire_due(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` jobs that were not started in time are cancelled, reason `expired`."""
    return _sweep(connection, _EXPIRE_DUE, limit, facts={"reason": "expired"})


def release_let_go(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` waiting jobs may start: all that they waited for has come."""
    return _sweep(connection, _RELEASE_LET_GO, limit)


def cancel_let_down(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` waiting jobs are cancelled: one that they waited for has not succeeded."""
    return _sweep(connection, _CANCEL_LET_DOWN, limit, facts={"reason": "dependency"})


def cancel_of_batch(connection: Connection, batch_id: UUID, reason: str, limit: int) -> list[Moved]:
    """At most `limit` of the batch's jobs are cancelled, and as many running ones asked to end."""
    facts = {"reason": reason}
    moved = _sweep(connection, _CANCEL_OF_BATCH, limit, facts=facts, batch=batch_id)
    binds = {"facts": facts, "batch": batch_id, "reason": reason}
    return moved + _sweep(connection, _ASK_BATCH, limit, **binds)


def rescue(connection: Connection, limit: int, lease: timedelta) -> list[Moved]:
    """At most `limit` jobs whose holder let its lease run out count a crash and may start again.

    The third crash fails the job; one that was asked to end is cancelled. Nothing happens within
    one `lease` of PostgreSQL's start, when no holder could renew. A holder that still lives loses
    the job with it: its report finds another state.
    """
    detail = "its worker went away: the lease ran out"
    error = Error(Cause.CRASHED, WORKER_LOST, detail).document()
    binds = {
        "lease": lease,
        "failure": error,
        "outcome": Outcome.CRASHED,
        **usage_binds(UNKNOWN_USAGE),
    }
    moved = _sweep(connection, _RESCUE[Move.CRASH], limit, facts=crash_facts(detail), **binds)
    for move in (Move.CRASH_OUT, Move.CANCEL_RUNNING):
        binds["facts"] = {"error": error} if move is Move.CRASH_OUT else {"reason": detail}
        moved += _sweep(connection, _RESCUE[move], limit, **binds)
    return moved


def look_for_lost(connection: Connection) -> tuple[datetime, bool]:
    """The time, and whether `rescue` may find something. No transaction has begun, or begins."""
    now, is_any_out = _LOOK_FOR_LOST.glance(connection)
    return now, is_any_out


_LOOK_FOR_LOST = Direct(
    "lading_look_for_lost",
    sa.text("""
SELECT clock_timestamp() AS now, EXISTS (
    SELECT FROM job WHERE state = 'running' AND lease_until < clock_timestamp()
) AS is_any_out
""").columns(now=sa.DateTime(timezone=True), is_any_out=sa.Boolean),
)
_EXPIRED = sa.and_(
    col(Job.expires_at) <= DUE, col(Job.attempt) == 0, col(Job.finished_at).is_(None)
)
_LEASE_OUT = sa.and_(
    col(Job.state) == written(JobState.RUNNING),
    col(Job.lease_until) < NOW,
    sa.func.pg_postmaster_start_time() < NOW - bind("lease", sa.Interval),
)
_TIMED = col(Job.state).in_([written(JobState.SCHEDULED), written(JobState.RETRYING)])
_RELEASE_DUE = statement_of(
    Move.RELEASE, overdue(col(Job.run_at), _TIMED, col(Job.run_at) <= DUE), sa.true()
)
_EXPIRE_DUE = statement_of(Move.EXPIRE, overdue(col(Job.expires_at), _EXPIRED), sa.true())
_WAITING = col(Job.state) == written(JobState.WAITING)
_LEFT_ALONE = col(Job.parents_left) <= sa.literal_column("0")  # as the index says it
_RELEASE_LET_GO = statement_of(
    Move.RELEASE,
    overdue(
        col(Job.run_at),
        _WAITING,
        _LEFT_ALONE,
        col(Job.parents_left) == 0,
        sa.or_(col(Job.run_at).is_(None), col(Job.run_at) <= DUE),
    ),
    sa.true(),
)
_CANCEL_LET_DOWN = statement_of(
    Move.CANCEL, overdue(col(Job.id), _WAITING, _LEFT_ALONE, col(Job.parents_left) < 0), sa.true()
)
_OF_BATCH = col(Job.batch_id) == bind("batch", sa.Uuid)
_IDLE = col(Job.state).in_([written(state) for state in Move.CANCEL.sources])
_RUNNING = col(Job.state) == written(JobState.RUNNING)
_CANCEL_OF_BATCH = statement_of(Move.CANCEL, overdue(col(Job.id), _OF_BATCH, _IDLE), sa.true())
_ASK_BATCH = statement_of(
    Move.REQUEST_CANCEL, overdue(col(Job.id), _OF_BATCH, _RUNNING, WANTED), sa.true()
)
_RESCUE = {
    move: statement_of(move, overdue(col(Job.lease_until), _LEASE_OUT, condition), sa.true())
    for move, condition in {
        Move.CRASH: sa.and_(WANTED, LEFT),
        Move.CRASH_OUT: sa.and_(WANTED, sa.not_(LEFT)),
        Move.CANCEL_RUNNING: col(Job.cancel_requested),
    }.items()
}


def _sweep(
    connection: Connection, statement: sa.Select[Any], limit: int, **binds: Any
) -> list[Moved]:
    rows = connection.execute(statement, {"limit": limit, "facts": {}, **binds})
    return [Moved._make(row) for row in rows]
