"""Bulk operations asked for: previewed, confirmed, read, stopped. Nothing here commits.

Which jobs an operation means is written down in the statement that counts them, so that what was
confirmed is what is done: neither a job that is new nor one that fits only later joins in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from jobs.bulk.models import BulkOperation, BulkPart
from jobs.bulk.words import Op, filter_document, meant
from jobs.errors import BulkEnded, BulkMissing, BulkTooLarge, CountDiffers
from jobs.events import planned_anew
from jobs.ids import uuid7
from jobs.models import Job
from jobs.queries import JobFilter, conditions_of
from jobs.trail.record import Actor
from jobs.views import JobView, job_columns

MOST = 1_000_000  # jobs of one operation: 2 s to count and write down, 16 MB
PART = 500  # ids in a row of bulk_part: 8 kB
SAMPLE = 10  # jobs of a preview
USUAL_RATE = 500.0  # jobs a second: a fifth of what one dispatcher can, so that others have room
_TOO_SLOW = "57014"  # SQLSTATE: statement_timeout


class Preview(NamedTuple):
    """What an operation would mean now."""

    jobs: int  #: MOST + 1: more than an operation may mean
    sample: list[JobView]  #: the newest of them, without args and results


class Order(NamedTuple):
    """What somebody asks for, and has counted before."""

    op: Op
    wanted: JobFilter
    expected_count: int
    rate: float = USUAL_RATE
    priority: int | None = None
    reason: str | None = None


class OperationView(NamedTuple):
    """An operation as readers see it."""

    id: UUID
    op: str
    filter: dict[str, Any]
    priority: int | None
    reason: str | None
    rate: float
    state: str
    total: int
    done: int
    skipped: int
    failed: int
    key_id: str | None
    key_name: str
    created_at: datetime
    finished_at: datetime | None


_SHOWN = [col(getattr(BulkOperation, name)) for name in OperationView._fields]


def preview(connection: Connection, project_id: str, op: Op, wanted: JobFilter) -> Preview:
    """How many jobs it would mean, and some. BulkTooLarge when they cannot be counted in time."""
    narrowed = meant(op, wanted)
    if narrowed is None:
        return Preview(0, [])
    some = sa.select(sa.literal(1)).where(*_which(project_id, narrowed)).limit(MOST + 1).subquery()
    with planned_anew(connection), _in_time():
        count = connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        newest = connection.execute(_sample(project_id, narrowed)) if count else ()
    return Preview(count, [JobView._make(row) for row in newest])


def start(connection: Connection, actor: Actor, order: Order) -> OperationView:
    """The operation runs, on exactly the jobs that fit now.

    CountDiffers unless they are as many as expected; BulkTooLarge when they are more than MOST, or
    cannot be counted within statement_timeout. Then the caller's transaction must not commit.
    """
    narrowed = meant(order.op, order.wanted)
    operation_id, total = uuid7(), 0
    row = {
        "id": operation_id,
        **{name: getattr(actor, name) for name in ("project_id", "key_id")},
        "key_name": actor.name,
        "filter": filter_document(order.wanted),
        "total": order.expected_count,
        **{name: getattr(order, name) for name in ("priority", "reason", "rate")},
        "op": str(order.op),
    }
    connection.execute(sa.insert(BulkOperation).values(row))
    if narrowed is not None:
        with _in_time():
            written = connection.execute(_parts(operation_id, actor.project_id, narrowed))
        total = sum(written.scalars())
    if total > MOST:
        raise BulkTooLarge(MOST)
    if total != order.expected_count:
        raise CountDiffers(order.expected_count, total)
    if not total:
        _end(connection, operation_id, "done")
    return get_operation(connection, actor.project_id, operation_id)


def stop(connection: Connection, project_id: str, operation_id: UUID) -> OperationView | None:
    """No job has its turn any more; None: it was stopped before. BulkMissing, BulkEnded."""
    statement = sa.select(col(BulkOperation.state)).where(*_one(project_id, operation_id))
    state = connection.execute(statement.with_for_update()).scalar_one_or_none()
    if state is None:
        raise BulkMissing(operation_id)
    if state == "done":
        raise BulkEnded(operation_id)
    if state == "stopped":
        return None
    _end(connection, operation_id, "stopped")
    return get_operation(connection, project_id, operation_id)


def get_operation(connection: Connection, project_id: str, operation_id: UUID) -> OperationView:
    """The project's operation as it is now. BulkMissing."""
    statement = sa.select(*_SHOWN).where(*_one(project_id, operation_id))
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise BulkMissing(operation_id)
    return OperationView._make(row)


def page_operations(
    connection: Connection, project_id: str, *, limit: int, before: UUID | None = None
) -> tuple[list[OperationView], UUID | None]:
    """The project's next `limit` operations older than `before`, and where to go on."""
    statement = sa.select(*_SHOWN).where(col(BulkOperation.project_id) == project_id)
    if before is not None:
        statement = statement.where(col(BulkOperation.id) < before)
    rows = connection.execute(statement.order_by(col(BulkOperation.id).desc()).limit(limit + 1))
    found = [OperationView._make(row) for row in rows]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def _end(connection: Connection, operation_id: UUID, state: str) -> None:
    connection.execute(
        sa.update(BulkOperation)
        .where(col(BulkOperation.id) == operation_id)
        .values({"state": state, "finished_at": sa.func.clock_timestamp()})
    )
    connection.execute(sa.delete(BulkPart).where(col(BulkPart.operation_id) == operation_id))


def _one(project_id: str, operation_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return col(BulkOperation.id) == operation_id, col(BulkOperation.project_id) == project_id


def _which(project_id: str, wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    return [col(Job.project_id) == project_id, *conditions_of(wanted)]


def _sample(project_id: str, wanted: JobFilter) -> sa.Executable:
    fitting = sa.select(*job_columns()).where(*_which(project_id, wanted))
    return fitting.order_by(col(Job.id).desc()).limit(SAMPLE)


def _parts(operation_id: UUID, project_id: str, wanted: JobFilter) -> sa.Executable:
    """Writes the ids down, at most one more than there may be; returns how many are in each row."""
    found = (
        sa.select(col(Job.id).label("id"))
        .where(*_which(project_id, wanted))
        .order_by(col(Job.id))
        .limit(MOST + 1)
        .subquery("found")
    )
    number = (sa.func.row_number().over(order_by=found.c.id) - 1) // PART
    numbered = sa.select(found.c.id, number.label("number")).subquery("numbered")
    ids = sa.func.array_agg(aggregate_order_by(numbered.c.id, numbered.c.id))
    rows = sa.select(sa.literal(operation_id), numbered.c.number, ids).group_by(numbered.c.number)
    statement = sa.insert(BulkPart).from_select(["operation_id", "number", "ids"], rows)
    return statement.returning(sa.func.cardinality(col(BulkPart.ids)))


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _TOO_SLOW:
            raise BulkTooLarge(MOST) from error
        raise
