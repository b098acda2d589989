"""The events of all jobs as one feed, which can be resumed and has no hole.

A number that counts events would be no position in it: a lower one may be committed after a higher
one was read. A position is a snapshot, PostgreSQL's own word for which transactions had ended at a
moment; new is what those wrote that had not ended then and have ended since (as PgQ makes batches
between two ticks). Whoever is far behind gets the way in pieces: a snapshot still tells the truth
when it is cut off after some transaction. Nothing has to be written for readers, and nobody waits
for a transaction that stays open; its events come when it ends.

Of one job, events come in the order of `seq`. Between jobs there is an order only in so far as one
piece follows another.
"""

import re
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.events import MOST_BYTES, planned_anew
from jobs.states import JobState, Move
from jobs.views import EventView

MOST_OF_POSITION = 8192  # characters; a transaction that was open takes up to twenty
_SNAPSHOT = r"([0-9]{1,19})((?:-[0-9]{1,19})*)"
_POSITION = re.compile(
    rf"([0-9a-f]{{8}})\.{_SNAPSHOT}(?:~{_SNAPSHOT}~([0-9a-f]{{32}})~([0-9]{{1,10}}))?"
)
FIRST = (UUID(int=0), 0)  #: before every event
TELL_STATE = ("created", "reprioritised")  # their data does, for no move stands behind them
_STATE_AFTER = {move.event: move.target for move in Move}


class Snapshot(NamedTuple):
    """Which transactions had ended: all below `end`, but those in `running`."""

    end: int
    running: frozenset[int] = frozenset()

    def sees(self, xact_id: int) -> bool:
        """Whether that transaction had ended."""
        return xact_id < self.end and xact_id not in self.running

    def until(self, xact_id: int) -> "Snapshot":
        """The same, but silent about whatever began after that transaction."""
        end = min(self.end, xact_id + 1)
        return Snapshot(end, frozenset(each for each in self.running if each < end))

    def covers(self, other: "Snapshot") -> bool:
        """Whether it sees all that the other one sees."""
        return other.end <= self.end and not any(map(other.sees, self.running))


@dataclass(frozen=True, slots=True)
class Place:
    """What a reader has: all that `after` sees, and of what `until` sees besides, a part.

    The part are the events up to `read`, in the order of jobs and of `seq`.
    """

    after: Snapshot
    until: Snapshot | None = None  #: None: no piece was begun
    read: tuple[UUID, int] = FIRST

    @property
    def newest(self) -> Snapshot:
        """Nothing is known of what that does not see."""
        return self.until or self.after

    def covers(self, other: "Place") -> bool:
        """Whether a reader there surely has all that one at the other place has."""
        if not self.after.covers(other.after):
            return False
        return self.after.covers(other.newest) or (
            self.newest.covers(other.newest) and self.read >= other.read
        )


class Position(NamedTuple):
    """A reader's place, in the database called `epoch`.

    A restored or replaced database has another epoch: its transactions are counted anew.
    """

    epoch: str
    place: Place

    def text(self) -> str:
        """As clients keep it."""
        text = f"{self.epoch}.{_written(self.place.after)}"
        if self.place.until is None:
            return text
        job_id, seq = self.place.read
        return f"{text}~{_written(self.place.until)}~{job_id.hex}~{seq}"

    def has_reached(self, other: "Position") -> bool:
        """Whether the other one can be, when this is the newest: of this database, not ahead."""
        end = max(other.place.after.end, other.place.newest.end)
        return self.epoch == other.epoch and end <= self.place.after.end

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position that was written so; None: nothing was."""
        found = _POSITION.fullmatch(text) if len(text) <= MOST_OF_POSITION else None
        if found is None:
            return None
        epoch, end, running, until_end, until_running, job_id, seq = found.groups()
        place = Place(_snapshot(end, running))
        if until_end is not None:
            until = _snapshot(until_end, until_running)
            place = Place(place.after, until, (UUID(job_id), int(seq)))
        if not all(_is_sound(each) for each in (place.after, place.newest)):
            return None
        return cls(epoch, place) if place.read[1] < 2**31 else None


def _written(snapshot: Snapshot) -> str:
    return "-".join(map(str, (snapshot.end, *sorted(snapshot.running))))


def _snapshot(end: str, running: str) -> Snapshot:
    return Snapshot(int(end), frozenset(int(each) for each in running.split("-")[1:]))


def _is_sound(snapshot: Snapshot) -> bool:
    return snapshot.end < 2**63 and all(each < snapshot.end for each in snapshot.running)


def has_gone_on(name: str) -> str:
    """SQL: whether there may be events after the position of that name in `bus_position`."""
    return f"""EXISTS (
        SELECT FROM bus_position WHERE name = '{name}' AND (
            position ~ '[-~]'
            OR EXISTS (SELECT FROM job_event
                       WHERE xact_id >= CAST(substring(position FROM '[.]([0-9]+)') AS bigint))
        )
    )"""  # noqa: S608 - the name is one of ours


class FeedEvent(NamedTuple):
    """An event, and what a filter asks of its job."""

    event: EventView
    xact_id: int
    project_id: str
    kind: str
    queue: str
    labels: dict[str, str]

    @property
    def key(self) -> tuple[UUID, int]:
        """Its place in the order of a piece."""
        return self.event.job_id, self.event.seq

    @property
    def state(self) -> str | None:
        """The job's state after it."""
        if self.event.type in TELL_STATE:
            return self.event.data.get("state")
        return _STATE_AFTER.get(self.event.type)


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """Which events a reader wants; what is empty does not narrow it."""

    project_id: str
    kind: str | None = None
    queue: str | None = None
    states: Collection[JobState] = ()  #: that the event brought the job into, or left it in
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, event: FeedEvent) -> bool:
        """Whether the reader gets it."""
        return (
            event.project_id == self.project_id
            and self.kind in {None, event.kind}
            and self.queue in {None, event.queue}
            and (not self.states or event.state in self.states)
            and self.labels.items() <= event.labels.items()
        )


class FeedPage(NamedTuple):
    """Some events, and where their reader stands after them."""

    events: list[FeedEvent]
    place: Place
    is_last: bool  #: when it was read, there was nothing more


def read_position(connection: Connection) -> Position:
    """The newest position: whatever ends from now on is new."""
    row = connection.execute(_NOW).one()
    epoch = zlib.crc32(f"{row.system} {row.timeline} {row.oid}".encode())
    _, end, running = row.snapshot.split(":")
    ids = frozenset(int(each) for each in running.split(",") if each)
    return Position(f"{epoch:08x}", Place(Snapshot(int(end), ids)))


#: How far to read at once, after the first snapshot and up to the second: some `limit` events.
Piece = Callable[[Connection, Snapshot, Snapshot, int], Snapshot]


def read_feed(
    connection: Connection,
    place: Place,
    projects: Collection[str],
    limit: int,
    types: Collection[str] | None = None,
) -> FeedPage:
    """The next events of these projects, and types if given: `limit` or fewer, however many.

    Each statement may see more than the one before it, so that the connection may be in autocommit.
    """
    with planned_anew(connection):
        place, until, is_newest = bounded(connection, place, _piece, limit)
        if until == place.after:
            return FeedPage([], Place(place.after), is_newest)
        binds = {"projects": list(projects), "limit": limit, "most_bytes": MOST_BYTES}
        binds["types"] = None if types is None else list(types)
        binds |= dict(zip(("job", "seq"), place.read, strict=True))
        rows = [*connection.execute(_EVENTS, {**binds, **window(place.after, until)})]
    events = [_event(row) for row in rows if row.is_within]
    if len(rows) == limit or len(events) < len(rows):
        read = (events[-1].event.job_id, events[-1].event.seq)
        return FeedPage(events, Place(place.after, until, read), is_last=False)
    return FeedPage(events, Place(until), is_newest)


def bounded(
    connection: Connection, place: Place, piece: Piece, limit: int
) -> tuple[Place, Snapshot, bool]:
    """The place with an end, that end, and whether it is the newest there is.

    A place in the middle of a piece has its end already; another one gets that of the next `piece`.
    """
    if place.until is not None:
        return place, place.until, False
    now = read_position(connection).place.after
    until = piece(connection, place.after, now, limit)
    return Place(place.after, until), until, until == now


def next_window(
    connection: Connection, after: Snapshot, now: Snapshot, most: int
) -> tuple[Snapshot, bool]:
    """How far whoever needs no order may read at once, and whether that is `now`: some `most`."""
    binds = {"first": after.end, "end": now.end, "skipped": most - 1}
    last = connection.execute(_CUT, binds).scalar_one_or_none()
    until = now if last is None else now.until(last)
    return until, until == now


_NOW = sa.text("""
SELECT CAST(pg_current_snapshot() AS text) AS snapshot,
       (SELECT system_identifier FROM pg_control_system()) AS system,
       left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline,
       (SELECT oid FROM pg_database WHERE datname = current_database()) AS oid
""")
# The piece's last transaction, if there are more events than fit.
_CUT = sa.text("""
SELECT xact_id FROM job_event WHERE xact_id >= :first AND xact_id < :end
ORDER BY xact_id OFFSET :skipped LIMIT 1
""")
# A transaction gets its id with its first write, which may be long before it gets a job's lock:
# so an event's predecessor may be of a later transaction, and has to be in the same piece.
_PREDECESSOR = sa.text("""
SELECT max(before.xact_id) FROM job_event AS event
JOIN job_event AS before ON before.job_id = event.job_id AND before.seq = event.seq - 1
WHERE (event.xact_id = ANY(:ended) OR event.xact_id >= :first) AND event.xact_id < :end
      AND event.xact_id <> ALL(:running) AND before.xact_id >= :end
""")
_EVENTS = sa.text("""
WITH fresh AS (
    SELECT * FROM job_event WHERE xact_id = ANY(:ended)
    UNION ALL
    SELECT * FROM job_event
    WHERE xact_id >= :first AND xact_id < :end AND xact_id <> ALL(:running)
),
next AS (
    SELECT fresh.*, job.project_id, job.kind, job.queue, job.labels
    FROM fresh JOIN job ON job.id = fresh.job_id
    WHERE (fresh.job_id, fresh.seq) > (CAST(:job AS uuid), :seq) AND job.project_id = ANY(:projects)
          AND (CAST(:types AS text[]) IS NULL OR fresh.type = ANY(CAST(:types AS text[])))
    ORDER BY fresh.job_id, fresh.seq LIMIT :limit
),
measured AS (
    SELECT *, coalesce(sum(pg_column_size(data)) OVER (
        ORDER BY job_id, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) < :most_bytes AS is_within
    FROM next
)
SELECT job_id, seq, type, at, attempt, CASE WHEN is_within THEN data END AS data, xact_id,
       project_id, kind, queue, labels, is_within
FROM measured ORDER BY job_id, seq
""").columns(data=JSONB, labels=JSONB)


def _piece(connection: Connection, after: Snapshot, now: Snapshot, limit: int) -> Snapshot:
    """How far to read at once: up to now, or so far that there are `limit` events or a few more."""
    binds = {"first": after.end, "end": now.end, "skipped": limit - 1}
    last = connection.execute(_CUT, binds).scalar_one_or_none()
    until = now
    while last is not None:
        until = now.until(last)
        last = connection.execute(_PREDECESSOR, window(after, until)).scalar_one()
    return until


def window(after: Snapshot, until: Snapshot) -> dict[str, Any]:
    """Which transactions `until` sees and `after` does not, as binds of a statement."""
    ended = [each for each in after.running if until.sees(each)]
    running = [*until.running]
    return {"ended": ended, "first": after.end, "end": until.end, "running": running}


def _event(row: sa.Row[Any]) -> FeedEvent:
    event = EventView(row.job_id, row.seq, row.type, row.at, row.attempt, row.data)
    return FeedEvent(event, row.xact_id, row.project_id, row.kind, row.queue, row.labels)
