"""Every change of a job's state, one function per move.

A move is one statement: under a guard it changes the row, takes the next `seq` from it, inserts the
event and, where an attempt ends, its row; or it finds no row and changes nothing. Then a move that
names its attempt raises LeaseLost, any other JobNotFound or InvalidTransition. Since each is one
statement, an autocommit connection is enough; nothing here commits. Row locks only, never two jobs
at once but in the sweeps, which skip what is locked.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.attempts import UNKNOWN_USAGE, WORKER_LOST, Cause, Error, Outcome, Usage
from jobs.errors import InvalidTransition, JobNotFound, LeaseLost
from jobs.models import STATE, Job, JobAttempt, JobEvent, JobStep
from jobs.rules import DUE, ERROR, FACTS, LEFT, NOW, RULES, WANTED, bind, outcome_of
from jobs.states import FINAL, JobState, Move


class Moved(NamedTuple):
    """The event that the move wrote, and the job as it left it."""

    id: UUID
    project_id: str
    queue: str
    state: JobState
    attempt: int
    cancel_requested: bool
    seq: int
    type: str
    at: datetime
    data: dict[str, Any]


class Claim(NamedTuple):
    """What an attempt needs to know of its job, and the `started` event that made it."""

    id: UUID
    project_id: str
    queue: str
    state: JobState
    attempt: int
    cancel_requested: bool
    seq: int
    type: str
    at: datetime
    data: dict[str, Any]
    kind: str
    args: dict[str, Any]
    failures: int
    max_attempts: int
    timeout_seconds: float | None
    labels: dict[str, str]


def release_due(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` scheduled and retrying jobs whose time has come may start."""
    return _sweep(connection, _RELEASE_DUE, limit)


def expire_due(connection: Connection, limit: int) -> list[Moved]:
    """At most `limit` jobs that were not started in time are cancelled, reason `expired`."""
    return _sweep(connection, _EXPIRE_DUE, limit, facts={"reason": "expired"})


def rescue(connection: Connection, limit: int, lease: timedelta) -> list[Moved]:
    """At most `limit` jobs whose holder let its lease run out count a crash and may start again.

    The third crash fails the job; one that was asked to end is cancelled. Nothing happens within
    one `lease` of PostgreSQL's start, when no holder could renew. A holder that still lives loses
    the job with it: its report finds another state.
    """
    detail = "its worker went away: the lease ran out"
    error = Error(Cause.CRASHED, WORKER_LOST, detail).document()
    binds = {"lease": lease, "failure": error, "outcome": Outcome.CRASHED, **_usage(UNKNOWN_USAGE)}
    moved = _sweep(connection, _RESCUE[Move.CRASH], limit, facts=_crash(detail), **binds)
    for move in (Move.CRASH_OUT, Move.CANCEL_RUNNING):
        binds["facts"] = {"error": error} if move is Move.CRASH_OUT else {"reason": detail}
        moved += _sweep(connection, _RESCUE[move], limit, **binds)
    return moved


def start(
    connection: Connection, job_id: UUID, *, attempt: int, worker: UUID, lease: timedelta
) -> Claim:
    """`worker` holds the job as `attempt`, the next one, for `lease`. LeaseLost: drop the bell.

    Refused when the job is not queued, has expired before its first start, or its queue is paused.
    """
    binds = {"holder": worker, "lease": lease, "facts": {"worker": str(worker)}}
    row = connection.execute(_START, {"job": job_id, "fence": attempt, **binds}).one_or_none()
    if row is None:
        raise LeaseLost(job_id, attempt)
    return Claim._make(row)


def record_progress(
    connection: Connection, job_id: UUID, *, attempt: int, fraction: float, message: str | None
) -> Moved:
    """The job shows how far it is. LeaseLost, here and below: stop, and drop what there is."""
    facts = {"fraction": fraction, "message": message}
    return _report(connection, job_id, attempt, (Move.PROGRESS,), facts=facts)


def record_log(
    connection: Connection, job_id: UUID, *, attempt: int, lines: Sequence[dict[str, Any]]
) -> Moved:
    """The lines stand in the job's log; at most 100 a call."""
    return _report(connection, job_id, attempt, (Move.LOG,), facts={"lines": list(lines)})


def record_step(
    connection: Connection, job_id: UUID, *, attempt: int, name: str, result: Any
) -> Moved:
    """The step's JSON result is stored; IntegrityError when the step has one already."""
    binds = {"facts": {"name": name}, "name": name, "returned": result}
    return _report(connection, job_id, attempt, (Move.STEP,), **binds)


def succeed(
    connection: Connection, job_id: UUID, *, attempt: int, result: Any, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The job has succeeded, even when a cancel was asked for."""
    binds = {"facts": {}, "returned": result, "failure": None, "outcome": Outcome.SUCCEEDED}
    return _report(connection, job_id, attempt, (Move.SUCCEED,), **binds, **_usage(usage))


def retry_later(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    error: Error,
    delay: timedelta,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more failure is counted; the job waits for `delay`, by the database's clock.

    Here and in the other ends but `succeed`: after a cancel request the job is cancelled instead.
    """
    binds = {"delay": delay, **_failure(error, Outcome.RETRIED), **_usage(usage)}
    return _report(connection, job_id, attempt, (Move.RETRY_LATER, Move.CANCEL_RUNNING), **binds)


def fail(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    error: Error,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more failure is counted, and it was the last."""
    binds = {**_failure(error, Outcome.FAILED), **_usage(usage)}
    return _report(connection, job_id, attempt, (Move.FAIL, Move.CANCEL_RUNNING), **binds)


def cancel_running(
    connection: Connection, job_id: UUID, *, attempt: int, reason: str, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The running job has ended as cancelled; the reason of the request, if any, stands."""
    binds = {"facts": {"reason": reason}, "failure": None, "outcome": Outcome.CANCELLED}
    return _report(connection, job_id, attempt, (Move.CANCEL_RUNNING,), **binds, **_usage(usage))


def crash(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    detail: str,
    cause: Cause = Cause.CRASHED,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more crash is counted; the job may start again at once, or the last one failed it."""
    error = Error(cause, "ProcessDied", detail).document()
    binds = {"failure": error, "outcome": Outcome.CRASHED, **_usage(usage)}
    try:
        facts = _crash(detail, cause)
        return _report(connection, job_id, attempt, (Move.CRASH,), facts=facts, **binds)
    except LeaseLost:
        moves = (Move.CRASH_OUT, Move.CANCEL_RUNNING)
        return _report(connection, job_id, attempt, moves, facts={"error": error}, **binds)


def interrupt(
    connection: Connection, job_id: UUID, *, attempt: int, reason: str, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The job may start again at once; no budget is touched."""
    binds = {"facts": {"reason": reason}, "failure": None, "outcome": Outcome.INTERRUPTED}
    moves = (Move.INTERRUPT, Move.CANCEL_RUNNING)
    return _report(connection, job_id, attempt, moves, **binds, **_usage(usage))


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


def retry(connection: Connection, project_id: str, job_id: UUID) -> Moved:
    """The job may start again at once: both budgets are 0, a cancel request is forgotten."""
    return _asked(connection, project_id, job_id, Move.RETRY, "retry")


def run_now(connection: Connection, project_id: str, job_id: UUID) -> Moved:
    """The job may start at once, whatever its `run_at` was."""
    return _asked(connection, project_id, job_id, Move.RUN_NOW, "run-now")


_SHOWN = ("id", "project_id", "queue", "state", "attempt", "cancel_requested", "seq")
_CLAIMED = Claim._fields[len(Moved._fields) :]


def _statement(
    move: Move,
    which: sa.ColumnElement[bool],
    guard: sa.ColumnElement[bool] | None = None,
    more: Sequence[str] = (),
) -> sa.Select[Any]:
    """WITH moved AS (UPDATE job …), logged AS (INSERT INTO job_event …) SELECT … FROM moved."""
    rule = RULES[move]
    # By its text: a plan made on a young table would go by a small partial index, and be kept.
    is_source = sa.cast(col(Job.state), sa.Text).in_(
        [sa.literal_column(f"'{s}'") for s in move.sources]
    )
    moved = (
        sa.update(Job)
        .where(which, is_source, rule.guard if guard is None else guard)
        .values(state=_state(move.target), seq=col(Job.seq) + 1, **rule.changes)
        .returning(Job, NOW.label("at"))
        .cte("moved")
    )
    facts = _facts(move, moved).label("data")
    event = sa.select(
        moved.c.id, moved.c.seq, sa.literal(move.event), moved.c.at, moved.c.attempt, facts
    )
    columns = ["job_id", "seq", "type", "at", "attempt", "data"]
    logged = sa.insert(JobEvent).from_select(columns, event).cte("logged")
    shown = [*(moved.c[name] for name in _SHOWN), sa.literal(move.event).label("type")]
    statement = sa.select(*shown, moved.c.at, facts, *(moved.c[name] for name in more))
    statement = statement.add_cte(logged)
    if move.ends_attempt:
        statement = statement.add_cte(_ended(move, moved))
    if move is Move.STEP:
        statement = statement.add_cte(_stored(moved))
    return statement


def _state(state: JobState) -> sa.ColumnElement[Any]:
    """The state in the statement's own text, so that partial indexes and prepared plans see it."""
    return sa.literal_column(f"'{state}'::job_state", type_=STATE)


def _facts(move: Move, moved: sa.CTE) -> sa.ColumnElement[Any]:
    if move is Move.RETRY_LATER:
        return FACTS.concat(sa.func.jsonb_build_object("next_at", moved.c.run_at))
    if move is Move.CANCEL_RUNNING:  # it may end another report, whose facts are not its own
        said = sa.func.coalesce(moved.c.cancel_reason, FACTS["reason"].astext, "cancelled")
        return sa.func.jsonb_build_object("reason", said, type_=JSONB)
    return sa.func.coalesce(FACTS, sa.literal({}, JSONB), type_=JSONB)


def _ended(move: Move, moved: sa.CTE) -> sa.CTE:
    names = ["outcome", "cause", "error", "max_rss_bytes", "cpu_seconds"]
    facts = [
        outcome_of(move),
        ERROR["cause"].astext,
        ERROR,
        bind("max_rss_bytes", sa.BigInteger),
        bind("cpu_seconds", sa.Float),
    ]
    row = sa.select(
        moved.c.id, moved.c.attempt, moved.c.worker, moved.c.started_at, moved.c.at, *facts
    )
    columns = ["job_id", "attempt", "worker", "started_at", "finished_at", *names]
    return sa.insert(JobAttempt).from_select(columns, row).cte("ended")


def _stored(moved: sa.CTE) -> sa.CTE:
    row = sa.select(
        moved.c.id, bind("name", sa.Text), moved.c.attempt, moved.c.at, bind("returned", JSONB)
    )
    columns = ["job_id", "name", "attempt", "at", "result"]
    return sa.insert(JobStep).from_select(columns, row).cte("stored")


def _overdue(
    longest: Any, *conditions: sa.ColumnExpressionArgument[bool]
) -> sa.ColumnElement[bool]:
    """The at most `limit` rows that nobody holds a lock on and are overdue for `longest`."""
    ids = (
        sa.select(col(Job.id))
        .where(*conditions)
        .order_by(longest)
        .limit(bind("limit", sa.Integer))
        .with_for_update(skip_locked=True)
    )
    return col(Job.id) == sa.any_(sa.func.array(ids.scalar_subquery()))


_EXPIRED = sa.and_(
    col(Job.expires_at) <= DUE, col(Job.attempt) == 0, col(Job.finished_at).is_(None)
)
_LEASE_OUT = sa.and_(
    col(Job.state) == _state(JobState.RUNNING),
    col(Job.lease_until) < NOW,
    sa.func.pg_postmaster_start_time() < NOW - bind("lease", sa.Interval),
)
_TIMED = col(Job.state).in_([_state(JobState.SCHEDULED), _state(JobState.RETRYING)])
_ONE = col(Job.id) == bind("job", sa.Uuid)
_SINGLE: dict[Move, sa.Select[Any]] = {
    move: _statement(move, _ONE) for move in Move if move not in {Move.RELEASE, Move.EXPIRE}
}
_START = _statement(Move.START, _ONE, more=_CLAIMED)
_RELEASE_DUE = _statement(
    Move.RELEASE, _overdue(col(Job.run_at), _TIMED, col(Job.run_at) <= DUE), sa.true()
)
_EXPIRE_DUE = _statement(Move.EXPIRE, _overdue(col(Job.expires_at), _EXPIRED), sa.true())
_RESCUE = {
    move: _statement(move, _overdue(col(Job.lease_until), _LEASE_OUT, condition), sa.true())
    for move, condition in {
        Move.CRASH: sa.and_(WANTED, LEFT),
        Move.CRASH_OUT: sa.and_(WANTED, sa.not_(LEFT)),
        Move.CANCEL_RUNNING: col(Job.cancel_requested),
    }.items()
}


def _report(
    connection: Connection, job_id: UUID, attempt: int, moves: Sequence[Move], **binds: Any
) -> Moved:
    """The first of `moves` that its guard allows, in the attempt's name."""
    for move in moves:
        row = connection.execute(_SINGLE[move], {"job": job_id, "fence": attempt, **binds}).first()
        if row is not None:
            return Moved._make(row)
    raise LeaseLost(job_id, attempt)


def _ask(
    connection: Connection, project_id: str, job_id: UUID, move: Move, **binds: Any
) -> Moved | None:
    binds = {"job": job_id, "project": project_id, "facts": {}, **binds}
    row = connection.execute(_SINGLE[move], binds).first()
    return None if row is None else Moved(*row)


def _asked(connection: Connection, project_id: str, job_id: UUID, move: Move, verb: str) -> Moved:
    moved = _ask(connection, project_id, job_id, move)
    if moved is None:
        raise InvalidTransition(job_id, _current(connection, project_id, job_id)[0], verb)
    return moved


def _current(connection: Connection, project_id: str, job_id: UUID) -> tuple[JobState, bool]:
    statement = sa.select(col(Job.state), col(Job.cancel_requested)).where(
        col(Job.id) == job_id, col(Job.project_id) == project_id
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return row[0], row[1]


def _sweep(
    connection: Connection, statement: sa.Select[Any], limit: int, **binds: Any
) -> list[Moved]:
    rows = connection.execute(statement, {"limit": limit, "facts": {}, **binds})
    return [Moved._make(row) for row in rows]


def _failure(error: Error, outcome: Outcome) -> dict[str, Any]:
    document = error.document()
    return {"facts": {"error": document}, "failure": document, "outcome": outcome}


def _usage(usage: Usage) -> dict[str, Any]:
    return {"max_rss_bytes": usage.max_rss_bytes, "cpu_seconds": usage.cpu_seconds}


def _crash(detail: str, cause: Cause = Cause.CRASHED) -> dict[str, Any]:
    return {"cause": str(cause), "detail": detail}
