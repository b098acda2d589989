"""Events that were published within somebody else's transaction, and meet their triggers after it.

Such an event is a row that is pending: it commits or vanishes with the work around it. A dispatcher
takes it; that it is pending no more, its jobs and its deliveries are one transaction, and the row's
lock keeps two dispatchers apart, so that it meets each trigger once.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.bus.envelope import NewEvent
from jobs.bus.publishing import Published, insert_events, meet
from jobs.direct import flags
from jobs.registry import Registry

IS_ANY = "EXISTS (SELECT FROM cloud_event WHERE is_pending)"
_IS_ANY = flags("lading_look_for_pending", f"SELECT {IS_ANY}", 1)
_TAKE = sa.text("""
SELECT id, project_id, source, event_id, type, envelope, depth, received_at FROM cloud_event
WHERE is_pending ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
""").columns(envelope=JSONB)
_SETTLE = sa.text("UPDATE cloud_event SET is_pending = false WHERE id = ANY(CAST(:ids AS uuid[]))")
_FIND = sa.text("""
SELECT id FROM cloud_event
WHERE project_id = :project AND source = :source AND event_id = :event_id
""")


def publish_later(
    connection: Connection, project_id: str, event: NewEvent, job_id: UUID | None = None
) -> UUID:
    """The event is accepted with the caller's transaction: its address, or its first twin's.

    `job_id` is the job whose handler publishes it. A twin that is not committed is waited for.
    """
    if insert_events(connection, project_id, [event], job_id=job_id, is_pending=True):
        return event.id
    binds = {"project": project_id, "source": event.source, "event_id": event.event_id}
    found: UUID = connection.execute(_FIND, binds).scalar_one()
    return found


def is_any_pending(connection: Connection) -> bool:
    """Whether `settle` has something to do. No transaction has begun."""
    (is_any,) = _IS_ANY.glance(connection)
    return bool(is_any)


def settle(connection: Connection, registry: Registry, limit: int) -> dict[str, list[Published]]:
    """Up to `limit` pending events have met their triggers; by project. Locks them."""
    waiting: dict[str, list[sa.Row[Any]]] = {}
    for row in connection.execute(_TAKE, {"limit": limit}):
        waiting.setdefault(row.project_id, []).append(row)
    settled = {
        project_id: _settle(connection, registry, project_id, rows)
        for project_id, rows in waiting.items()
    }
    ids = [row.id for rows in waiting.values() for row in rows]
    if ids:
        connection.execute(_SETTLE, {"ids": ids})
    return settled


def _settle(
    connection: Connection, registry: Registry, project_id: str, rows: Sequence[sa.Row[Any]]
) -> list[Published]:
    events = [
        NewEvent(row.id, row.source, row.event_id, row.type, row.envelope, "", row.depth)
        for row in rows
    ]
    received = {row.id: row.received_at for row in rows}
    return list(meet(connection, registry, project_id, events, received).values())
