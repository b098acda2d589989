"""Consumers: who follows events under a name, and how far that name has acknowledged them.

The position belongs to the name. Of those who follow under it, the newest has it alone: a member
that another has taken the place of acknowledges nothing any more. So a service that was cut off
comes back at once, and what its frozen twin says later moves nothing. What was acknowledged stays
so: a position never moves back, unless it is of another life of the database.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.errors import ConsumerDeleted, ConsumerMissing, ConsumerTaken, PositionUnknown
from jobs.feed import Position, read_position
from jobs.ids import LAST, uuid7

Loss = ConsumerTaken | ConsumerDeleted  #: why somebody is its member no more
NAME = r"[a-z0-9][a-z0-9._-]{0,99}"  #: of a consumer


class Consumer(NamedTuple):
    """A consumer of the project, as readers see it."""

    id: UUID
    name: str
    patterns: list[str]
    position: str
    member_id: UUID
    joined_at: datetime
    acknowledged_at: datetime | None
    created_at: datetime


class Joined(NamedTuple):
    """The newest member of a consumer."""

    id: UUID  #: of the member
    position: str  #: that was acknowledged; of a new consumer, from where it begins
    is_new: bool  #: the consumer was made with it


_COLUMNS = "id, name, patterns, position, member_id, joined_at, acknowledged_at, created_at"
_JOIN = sa.text("""
INSERT INTO event_consumer AS known (id, project_id, name, patterns, position, member_id)
VALUES (:id, :project, :name, :patterns, :position, :member)
ON CONFLICT (project_id, name) DO UPDATE
SET patterns = excluded.patterns, member_id = excluded.member_id, joined_at = clock_timestamp()
RETURNING known.position, known.id = :id AS is_new
""")
_GET = sa.text(
    f"SELECT {_COLUMNS} FROM event_consumer WHERE project_id = :project AND name = :name"  # noqa: S608
)
_LOCK = sa.text(f"{_GET.text} FOR UPDATE")
_ACKNOWLEDGE = sa.text(f"""
UPDATE event_consumer SET position = :position, acknowledged_at = clock_timestamp()
WHERE id = :id RETURNING {_COLUMNS}
""")  # noqa: S608 - names of columns
_RESTART = sa.text("""
UPDATE event_consumer SET position = :position
WHERE project_id = :project AND name = :name AND member_id = :member
""")
_PAGE = sa.text(f"""
SELECT {_COLUMNS} FROM event_consumer WHERE project_id = :project AND id < :before
ORDER BY id DESC LIMIT :limit
""")  # noqa: S608 - see above
_DELETE = sa.text("DELETE FROM event_consumer WHERE project_id = :project AND name = :name")
_LOST = sa.text("""
SELECT asked.member_id, asked.name, known.id IS NULL AS is_deleted
FROM unnest(CAST(:members AS uuid[]), CAST(:projects AS text[]), CAST(:names AS text[]))
     AS asked (member_id, project_id, name)
LEFT JOIN event_consumer AS known
     ON known.project_id = asked.project_id AND known.name = asked.name
WHERE known.member_id IS DISTINCT FROM asked.member_id
""")


def join(
    connection: Connection, project_id: str, name: str, patterns: Iterable[str], position: str
) -> Joined:
    """From now on the caller is the consumer's member; who was it is not any more.

    The consumer is made, at that position, if there is none of the name. Locks its row.
    """
    member_id = uuid7()
    binds = {"project": project_id, "name": name, "patterns": [*patterns], "position": position}
    row = connection.execute(_JOIN, {**binds, "id": uuid7(), "member": member_id}).one()
    return Joined(member_id, row.position, row.is_new)


def acknowledge(
    connection: Connection, project_id: str, name: str, member_id: UUID, position: Position
) -> Consumer:
    """Whoever follows under the name next begins there, or further on if that was acknowledged.

    ConsumerTaken: another is its member now. ConsumerMissing. PositionUnknown. Locks its row.
    """
    newest = read_position(connection)
    row = connection.execute(_LOCK, {"project": project_id, "name": name}).one_or_none()
    if row is None:
        raise ConsumerMissing(name)
    if row.member_id != member_id:
        raise ConsumerTaken(name)
    if not newest.has_reached(position):
        raise PositionUnknown
    kept = Position.parse(row.position)
    if kept is not None and newest.has_reached(kept) and kept.place.covers(position.place):
        position = kept
    binds = {"id": row.id, "position": position.text()}
    return Consumer(*connection.execute(_ACKNOWLEDGE, binds).one())


def restart(
    connection: Connection, project_id: str, name: str, member_id: UUID, position: Position
) -> None:
    """It goes on from there, for its own position is not known; if the member is its own still."""
    binds = {"project": project_id, "name": name, "member": member_id}
    connection.execute(_RESTART, {**binds, "position": position.text()})


def get_consumer(connection: Connection, project_id: str, name: str) -> Consumer:
    """The project's consumer of that name. ConsumerMissing."""
    row = connection.execute(_GET, {"project": project_id, "name": name}).one_or_none()
    if row is None:
        raise ConsumerMissing(name)
    return Consumer(*row)


def page_consumers(
    connection: Connection, project_id: str, *, limit: int, before: UUID | None = None
) -> tuple[list[Consumer], UUID | None]:
    """The next `limit` consumers older than `before`, newest first, and where it goes on."""
    binds: dict[str, Any] = {"project": project_id, "before": before or LAST, "limit": limit + 1}
    found = [Consumer(*row) for row in connection.execute(_PAGE, binds)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def delete_consumer(connection: Connection, project_id: str, name: str) -> None:
    """Its position is forgotten, and its member has to go. ConsumerMissing."""
    if not connection.execute(_DELETE, {"project": project_id, "name": name}).rowcount:
        raise ConsumerMissing(name)


def find_lost(
    connection: Connection, members: Collection[tuple[UUID, str, str]]
) -> dict[UUID, Loss]:
    """Which of these members (id, project, name) are not any more, and why."""
    ids, projects, names = zip(*members, strict=True)
    binds = {"members": [*ids], "projects": [*projects], "names": [*names]}
    return {
        row.member_id: (ConsumerDeleted if row.is_deleted else ConsumerTaken)(row.name)
        for row in connection.execute(_LOST, binds)
    }
