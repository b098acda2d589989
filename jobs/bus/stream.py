"""The events of the bus as one feed, resumed as the feed of all jobs is (jobs/feed.py).

A position is a snapshot of transactions, so that an event that is committed late is not passed
over. Within a piece events come in the order of their ids, which is that of their birth.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.events import MOST_BYTES, planned_anew
from jobs.feed import Place, Snapshot, bounded, window
from lading.patterns import ANY, patterns_of


class StreamedEvent(NamedTuple):
    """An event as it was accepted; what it made is not told, for that may go on."""

    id: UUID
    project_id: str
    type: str
    envelope: dict[str, Any]  #: the CloudEvent
    depth: int
    error: str | None
    job_id: UUID | None
    received_at: datetime
    xact_id: int

    @property
    def key(self) -> tuple[UUID, int]:
        """Its place in the order of a piece."""
        return self.id, 0


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """Which events a reader wants."""

    project_id: str
    patterns: Collection[str] = (ANY,)  #: of types, see lading.patterns

    def matches(self, event: StreamedEvent) -> bool:
        """Whether the reader gets it."""
        return event.project_id == self.project_id and any(
            pattern in self.patterns for pattern in patterns_of(event.type)
        )


class StreamPage(NamedTuple):
    """Some events, and where their reader stands after them."""

    events: Sequence[StreamedEvent]
    place: Place
    is_last: bool  #: when it was read, there was nothing more


def read_stream(
    connection: Connection, place: Place, projects: Collection[str], limit: int
) -> StreamPage:
    """The next events of these projects: `limit` or fewer, however many.

    As jobs.feed.read_feed: the connection may be in autocommit.
    """
    with planned_anew(connection):
        place, until, is_newest = bounded(connection, place, _piece, limit)
        if until == place.after:
            return StreamPage([], Place(place.after), is_newest)
        binds = {"projects": list(projects), "limit": limit, "most_bytes": MOST_BYTES}
        binds |= {"read": place.read[0], **window(place.after, until)}
        rows = [*connection.execute(_EVENTS, binds)]
    events = [_event(row) for row in rows if row.is_within]
    if len(rows) == limit or len(events) < len(rows):
        return StreamPage(events, Place(place.after, until, events[-1].key), is_last=False)
    return StreamPage(events, Place(until), is_newest)


# The piece's last transaction, if there are more events than fit.
_CUT = sa.text("""
SELECT xact_id FROM cloud_event WHERE xact_id >= :first AND xact_id < :end
ORDER BY xact_id OFFSET :skipped LIMIT 1
""")
_EVENTS = sa.text("""
WITH fresh AS (
    SELECT * FROM cloud_event WHERE xact_id = ANY(:ended)
    UNION ALL
    SELECT * FROM cloud_event
    WHERE xact_id >= :first AND xact_id < :end AND xact_id <> ALL(:running)
),
next AS (
    SELECT * FROM fresh WHERE id > :read AND project_id = ANY(:projects) ORDER BY id LIMIT :limit
),
measured AS (
    SELECT *, coalesce(sum(pg_column_size(envelope)) OVER (
        ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) < :most_bytes AS is_within
    FROM next
)
SELECT id, project_id, type, CASE WHEN is_within THEN envelope END AS envelope, depth, error,
       job_id, received_at, xact_id, is_within
FROM measured ORDER BY id
""").columns(envelope=JSONB)


def _piece(connection: Connection, after: Snapshot, now: Snapshot, limit: int) -> Snapshot:
    """How far to read at once: up to now, or so far that there are `limit` events or a few more."""
    binds = {"first": after.end, "end": now.end, "skipped": limit - 1}
    last = connection.execute(_CUT, binds).scalar_one_or_none()
    return now if last is None else now.until(last)


def _event(row: sa.Row[Any]) -> StreamedEvent:
    return StreamedEvent(
        row.id,
        row.project_id,
        row.type,
        row.envelope,
        row.depth,
        row.error,
        row.job_id,
        row.received_at,
        row.xact_id,
    )
