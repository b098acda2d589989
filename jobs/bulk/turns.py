"""Bulk operations carried out: a batch of jobs a turn, with what it leaves behind, or nothing.

A turn locks the operation and then the jobs of the batch, in their order, says the word to each
that still fits by the same functions as a single request, and moves the position on: one
transaction. A dispatcher that dies in it leaves the batch to the next one, untouched.
"""

from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs import lifecycle
from jobs.bulk.models import BulkPart
from jobs.bulk.operations import PART
from jobs.bulk.words import Op, meant, read_filter
from jobs.direct import flags
from jobs.errors import InvalidTransition, JobNotFound, JobsError
from jobs.lifecycle import Moved
from jobs.models import Job
from jobs.queries import conditions_of
from jobs.removal import delete_job

BATCH = 100  # jobs of a turn: 50 ms or so, in which others wait for their rows
SHORTEST = 0.2  # seconds between the turns of an operation with a low rate


class Turn(NamedTuple):
    """What a turn has done, and when there is something to do again."""

    moved: list[Moved]
    seconds: float | None  #: None: nothing runs


def is_any_running(connection: Connection) -> bool:
    """Whether an operation wants turns. No transaction has begun."""
    (is_any,) = _IS_ANY.glance(connection)
    return bool(is_any)


def take_turn(connection: Connection, process_id: UUID) -> Turn:
    """One batch of the operation that is the most due has had its turn, if any is.

    `process_id` counts deleted jobs out (jobs.removal). Raises what a locked row raises.
    """
    operation = connection.execute(_NEXT).one_or_none()
    if operation is None:
        seconds = connection.execute(_UNTIL).scalar_one()
        return Turn([], None if seconds is None else max(0.0, seconds))
    size = min(BATCH, max(1, int(operation.rate * SHORTEST)))
    ids = _ids(connection, operation, size)
    fitting = _lock(connection, operation, ids)
    counts = {"done": 0, "skipped": len(ids) - len(fitting), "failed": 0}
    moved: list[Moved] = []
    for job_id in fitting:
        try:
            done = _say(connection, operation, job_id, process_id)
        except (InvalidTransition, JobNotFound):
            counts["skipped"] += 1
        except JobsError:
            counts["failed"] += 1
        else:
            counts["done" if done is not None else "skipped"] += 1
            moved += done or []
    binds = {"id": operation.id, "count": len(ids), "delay": len(ids) / operation.rate}
    connection.execute(_ADVANCE, {**binds, **counts})
    if operation.position + len(ids) == operation.total:
        connection.execute(_FORGET, {"id": operation.id})
    return Turn(moved, 0.0)


def _ids(connection: Connection, operation: Any, size: int) -> list[UUID]:
    """The next ids: of one part, since the last one of a part may be all of a batch."""
    number, offset = divmod(operation.position, PART)
    statement = sa.select(col(BulkPart.ids)).where(
        col(BulkPart.operation_id) == operation.id, col(BulkPart.number) == number
    )
    ids: list[UUID] = connection.execute(statement).scalar_one()
    return ids[offset : offset + size]


def _lock(connection: Connection, operation: Any, ids: list[UUID]) -> list[UUID]:
    """Those that still fit; nobody changes them until the turn is over."""
    wanted = meant(Op(operation.op), read_filter(operation.filter))
    if wanted is None:
        return []
    statement = (
        sa.select(col(Job.id))
        .where(
            col(Job.id).in_(ids),
            col(Job.project_id) == operation.project_id,
            *conditions_of(wanted),
        )
        .order_by(col(Job.id))
        .with_for_update()
    )
    return [*connection.execute(statement).scalars()]


def _say(
    connection: Connection, operation: Any, job_id: UUID, process_id: UUID
) -> list[Moved] | None:
    """The events that it made; None: it was so already."""
    project_id = operation.project_id
    match Op(operation.op):
        case Op.CANCEL:
            reason = operation.reason or f"bulk operation {operation.id}"
            moved = lifecycle.cancel(connection, project_id, job_id, reason)
        case Op.RETRY:
            with connection.begin_nested():  # another job may take its unique key just now
                moved = lifecycle.retry(connection, project_id, job_id)
        case Op.REPRIORITISE:
            moved = lifecycle.reprioritise(connection, project_id, job_id, operation.priority)
        case Op.DELETE:
            delete_job(connection, project_id, job_id, process_id=process_id)
            return []
    return None if moved is None else [moved]


IS_ANY = "EXISTS (SELECT FROM bulk_operation WHERE state = 'running')"
_IS_ANY = flags("lading_look_for_bulk", f"SELECT {IS_ANY}", 1)
_NEXT = sa.text("""
SELECT * FROM bulk_operation WHERE state = 'running' AND next_at <= clock_timestamp()
ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
""")
_UNTIL = sa.text("""
SELECT extract(epoch FROM min(next_at) - clock_timestamp())::double precision
FROM bulk_operation WHERE state = 'running'
""")
_ADVANCE = sa.text("""
UPDATE bulk_operation
SET position = position + :count, done = done + :done, skipped = skipped + :skipped,
    failed = failed + :failed, next_at = clock_timestamp() + :delay * interval '1 s',
    state = CASE WHEN position + :count = total THEN 'done' ELSE state END,
    finished_at = CASE WHEN position + :count = total THEN clock_timestamp() END
WHERE id = :id
""")
_FORGET = sa.text("DELETE FROM bulk_part WHERE operation_id = :id")
