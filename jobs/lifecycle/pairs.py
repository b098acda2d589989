"""The moves of every attempt, its start and its success: alone, and both in one statement.

The pair is for lists of quick attempts, where the way to PostgreSQL and the commit cost more than
the work. Being one statement, both are done or neither. Whose job has been taken away meanwhile
still claims the next one: a move that finds no row is no error.
"""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.sql.visitors import replacement_traverse

from jobs.attempts import UNKNOWN_USAGE, Outcome, Usage
from jobs.direct import Direct, constant
from jobs.errors import LeaseLost
from jobs.lifecycle.reports import usage_binds
from jobs.lifecycle.statements import CLAIMED, ONE, Claim, Moved, statement_of
from jobs.states import JobState, Move

_NEXT = "next_"  # begins the names of the second move's parameters


class Success(NamedTuple):
    """An attempt that brought a result."""

    job_id: UUID
    attempt: int
    result: Any  #: JSON
    usage: Usage = UNKNOWN_USAGE


class Next(NamedTuple):
    """An attempt to be claimed."""

    job_id: UUID
    attempt: int
    worker: UUID
    lease: timedelta


def start(
    connection: Connection, job_id: UUID, *, attempt: int, worker: UUID, lease: timedelta
) -> Claim:
    """`worker` holds the job as `attempt`, the next one, for `lease`. LeaseLost: drop the bell.

    Refused when the job is not queued, has expired before its first start, or its queue is paused.
    """
    following = Next(job_id, attempt, worker, lease)
    row = _START.first(connection, _start_binds(following))
    if row is None:
        raise LeaseLost(job_id, attempt)
    return claim_of(following, row)


def succeed(
    connection: Connection, job_id: UUID, *, attempt: int, result: Any, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The job has succeeded, even when a cancel was asked for."""
    success = Success(job_id, attempt, result, usage)
    row = _SUCCEED.first(connection, _success_binds(success))
    if row is None:
        raise LeaseLost(job_id, attempt)
    return moved_by(success, row)


def succeed_and_start(
    connection: Connection, success: Success, following: Next
) -> tuple[Moved | None, Claim | None]:
    """As `succeed` and `start`, where None stands for LeaseLost of either.

    Where it fails it is not known whether both were done, unless the server refused them. Locks:
    both jobs' rows, for one commit.
    """
    row = _BOTH.first(connection, _success_binds(success) | _start_binds(following, _NEXT))
    assert row is not None
    moved, claimed = row[: len(MOVED)], row[len(MOVED) :]
    return (
        None if moved[0] is None else moved_by(success, moved),
        None if claimed[0] is None else claim_of(following, claimed),
    )


def _start_binds(following: Next, prefix: str = "") -> dict[str, Any]:
    job_id, attempt, worker, lease = following
    return {
        f"{prefix}job": job_id,
        f"{prefix}fence": attempt,
        f"{prefix}holder": worker,
        f"{prefix}lease": lease,
        f"{prefix}facts": {"worker": str(worker)},
    }


def _success_binds(success: Success) -> dict[str, Any]:
    job_id, attempt, result, usage = success
    return {
        "job": job_id,
        "fence": attempt,
        "returned": result,
        **usage_binds(usage),
    }


MOVED = ("seq", "at", "project_id", "queue", "cancel_requested")  # what is not known before
_CONSTANTS = {"facts": "'{}'::jsonb", "failure": "NULL::jsonb", "outcome": f"'{Outcome.SUCCEEDED}'"}


def moved_by(success: Success, row: tuple[Any, ...]) -> Moved:
    seq, at, project_id, queue, cancel_requested = row
    job_id, attempt, *_ = success
    state, event = Move.SUCCEED.target, Move.SUCCEED.event
    return Moved(job_id, project_id, queue, state, attempt, cancel_requested, seq, event, at, {})


def claim_of(following: Next, row: tuple[Any, ...]) -> Claim:
    seq, at, project_id, queue, cancel_requested, *facts = row
    job_id, attempt, worker, _ = following
    moved = (job_id, project_id, queue, JobState.RUNNING, attempt, cancel_requested, seq)
    return Claim(*moved, Move.START.event, at, {"worker": str(worker)}, *facts)


def part_of(
    move: Move,
    name: str,
    prefix: str = "",
    which: sa.ColumnElement[bool] = ONE,
    asked: sa.TableClause | None = None,
) -> sa.Subquery:
    """The move, with what never changes in its text: shorter to send, and cheaper to plan.

    Parameters that `asked` has are its columns, one row for each job.
    """
    columns: Any = {} if asked is None else asked.c

    def replaced(element: Any, **_: Any) -> sa.ColumnElement[Any] | None:
        if not isinstance(element, sa.BindParameter):
            return None
        if element.unique:
            return sa.literal_column(constant(element), type_=element.type)
        if move is Move.SUCCEED and element.key in _CONSTANTS:
            return sa.literal_column(_CONSTANTS[element.key], type_=element.type)
        if element.key in columns:
            return sa.type_coerce(columns[element.key], element.type)
        return sa.bindparam(prefix + element.key, type_=element.type)

    more = CLAIMED if move is Move.START else ()
    statement = statement_of(move, which, more=more, name=name, asked=asked)
    whole: Any = replacement_traverse(statement, {}, replaced)
    found: sa.Subquery = whole.subquery(f"{name}_shown")
    return found


def shown(part: sa.Subquery, names: tuple[str, ...]) -> list[sa.ColumnElement[Any]]:
    read: dict[str, Any] = {"at": sa.type_coerce(part.c.at, sa.DateTime)}
    if "args" in names:
        read["args"] = sa.cast(part.c.args, sa.Text)
    return [read.get(name, part.c[name]) for name in names]


def _both() -> sa.Select[Any]:
    ended, begun = part_of(Move.SUCCEED, "ended"), part_of(Move.START, "begun", _NEXT)
    either = sa.select(sa.literal_column("1")).subquery("either")
    rows = either.outerjoin(ended, sa.true()).outerjoin(begun, sa.true())
    return sa.select(*shown(ended, MOVED), *shown(begun, _CLAIMED)).select_from(rows)


_CLAIMED = (*MOVED, *CLAIMED)
_START = Direct("lading_start", sa.select(*shown(part_of(Move.START, "begun"), _CLAIMED)))
_SUCCEED = Direct("lading_succeed", sa.select(*shown(part_of(Move.SUCCEED, "ended"), MOVED)))
_BOTH = Direct("lading_succeed_and_start", _both())
