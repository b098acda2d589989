"""The moves as statements: a guarded UPDATE that takes the next `seq` and writes the event with it.

Each is one statement, so that an autocommit connection is enough. What may be moved, and what else
changes with it, stands in `jobs.states` and `jobs.rules`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.models import STATE, Job, JobAttempt, JobEvent, JobStep
from jobs.rules import ERROR, FACTS, NOW, RULES, bind, outcome_of
from jobs.states import JobState, Move


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
    args: str  #: JSON
    failures: int
    max_attempts: int
    timeout_seconds: float | None
    labels: dict[str, str]


_SHOWN = ("id", "project_id", "queue", "state", "attempt", "cancel_requested", "seq")
CLAIMED = Claim._fields[len(Moved._fields) :]


def statement_of(
    move: Move,
    which: sa.ColumnElement[bool],
    guard: sa.ColumnElement[bool] | None = None,
    more: Sequence[str] = (),
    *,
    name: str = "moved",
    asked: sa.TableClause | None = None,
) -> sa.Select[Any]:
    """WITH moved AS (UPDATE job …), logged AS (INSERT INTO job_event …) SELECT … FROM moved.

    Two that are to be put together need different names. `asked`, which has a column `job`, has the
    parameters of each of many.
    """
    rule = RULES[move]
    # By its text: a plan made on a young table would go by a small partial index, and be kept.
    is_source = sa.cast(col(Job.state), sa.Text).in_(
        [sa.literal_column(f"'{s}'") for s in move.sources]
    )
    moved = (
        sa.update(Job)
        .where(which, is_source, rule.guard if guard is None else guard)
        .values(state=written(move.target), seq=col(Job.seq) + 1, **rule.changes)
        .returning(*_kept(move, more), NOW.label("at"))
        .cte(name)
    )
    facts = _facts(move, moved).label("data")
    event = sa.select(
        moved.c.id, moved.c.seq, sa.literal(move.event), moved.c.at, moved.c.attempt, facts
    )
    columns = ["job_id", "seq", "type", "at", "attempt", "data"]
    logged = sa.insert(JobEvent).from_select(columns, event).cte(f"{name}_logged")
    shown = [*(moved.c[each] for each in _SHOWN), sa.literal(move.event).label("type")]
    statement = sa.select(*shown, moved.c.at, facts, *(moved.c[each] for each in more))
    statement = statement.add_cte(logged)
    if move.ends_attempt:
        statement = statement.add_cte(_ended(move, moved, asked).cte(f"{name}_ended"))
    if move is Move.STEP:
        statement = statement.add_cte(_stored(moved).cte(f"{name}_stored"))
    return statement


def _kept(move: Move, more: Sequence[str]) -> list[Any]:
    """The columns that the rest of the statement reads; each one less is a microsecond less."""
    names = [*_SHOWN, *more]
    if move.ends_attempt:
        names += ["worker", "started_at"]
    if move is Move.RETRY_LATER:
        names.append("run_at")
    if move is Move.CANCEL_RUNNING:
        names.append("cancel_reason")
    return [col(getattr(Job, each)) for each in names]


def written(state: JobState) -> sa.ColumnElement[Any]:
    """The state in the statement's own text, so that partial indexes and prepared plans see it."""
    return sa.literal_column(f"'{state}'::job_state", type_=STATE)


def _facts(move: Move, moved: sa.CTE) -> sa.ColumnElement[Any]:
    if move is Move.RETRY_LATER:
        return FACTS.concat(sa.func.jsonb_build_object("next_at", moved.c.run_at))
    if move is Move.CANCEL_RUNNING:  # it may end another report, whose facts are not its own
        said = sa.func.coalesce(moved.c.cancel_reason, FACTS["reason"].astext, "cancelled")
        return sa.func.jsonb_build_object("reason", said, type_=JSONB)
    return sa.func.coalesce(FACTS, sa.literal({}, JSONB), type_=JSONB)


def _ended(move: Move, moved: sa.CTE, asked: sa.TableClause | None) -> sa.Insert:
    names = ["outcome", "cause", "error", "max_rss_bytes", "cpu_seconds", "run_seconds"]
    facts = [
        outcome_of(move),
        ERROR["cause"].astext,
        ERROR,
        bind("max_rss_bytes", sa.BigInteger),
        bind("cpu_seconds", sa.Float),
        bind("run_seconds", sa.Float),
    ]
    row = sa.select(
        moved.c.id, moved.c.attempt, moved.c.worker, moved.c.started_at, moved.c.at, *facts
    )
    if asked is not None:
        row = row.where(moved.c.id == asked.c.job)
    columns = ["job_id", "attempt", "worker", "started_at", "finished_at", *names]
    return sa.insert(JobAttempt).from_select(columns, row)


def _stored(moved: sa.CTE) -> sa.Insert:
    row = sa.select(
        moved.c.id, bind("name", sa.Text), moved.c.attempt, moved.c.at, bind("returned", JSONB)
    )
    columns = ["job_id", "name", "attempt", "at", "result"]
    return sa.insert(JobStep).from_select(columns, row)


def overdue(longest: Any, *conditions: sa.ColumnExpressionArgument[bool]) -> sa.ColumnElement[bool]:
    """The at most `limit` rows that nobody holds a lock on and are overdue for `longest`."""
    ids = (
        sa.select(col(Job.id))
        .where(*conditions)
        .order_by(longest)
        .limit(bind("limit", sa.Integer))
        .with_for_update(skip_locked=True)
    )
    return col(Job.id) == sa.any_(sa.func.array(ids.scalar_subquery()))


ONE = col(Job.id) == bind("job", sa.Uuid)
SINGLE: dict[Move, sa.Select[Any]] = {
    move: statement_of(move, ONE) for move in Move if move not in {Move.RELEASE, Move.EXPIRE}
}
