"""What readers ask about events: one, a page of many, those that a publisher names.

As for jobs, a page is found by keyset: ids sort by birth, newest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.errors import EventMissing
from jobs.ids import LAST, first_id
from jobs.queries import CLOCK_SLACK
from lading.patterns import ANY


@dataclass(frozen=True, slots=True)
class Firing:
    """What came of an event at a trigger: a job, or the reason why there is none."""

    trigger_id: UUID
    job_id: UUID | None = None
    error: dict[str, Any] | None = None


class Accepted(NamedTuple):
    """An event of the project, as readers see it."""

    id: UUID
    envelope: dict[str, Any]  #: the CloudEvent
    depth: int
    error: str | None
    received_at: datetime
    firings: list[Firing]
    job_id: UUID | None = None  #: whose handler published it


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list shows; what is None does not narrow it."""

    pattern: str | None = None  #: of types
    source: str | None = None
    event_id: str | None = None  #: the publisher's
    received_after: datetime | None = None
    received_before: datetime | None = None


# Names of columns only; every value is bound.
_COLUMNS = """
event.id, event.envelope, event.depth, event.error, event.job_id, event.received_at, (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'trigger_id', trigger_id, 'job_id', job_id, 'error', error) ORDER BY at, trigger_id), '[]')
    FROM trigger_firing WHERE trigger_firing.event_id = event.id
) AS firings
"""
_TYPES = {"envelope": JSONB, "firings": JSONB}
_GET = sa.text(
    f"SELECT {_COLUMNS} FROM cloud_event AS event WHERE id = :id AND project_id = :project"  # noqa: S608 - see above
).columns(**_TYPES)
_FIND = sa.text(f"""
SELECT event.source, event.event_id, {_COLUMNS}
FROM unnest(CAST(:sources AS text[]), CAST(:event_ids AS text[])) AS wanted (source, event_id)
JOIN cloud_event AS event ON event.project_id = :project
     AND event.source = wanted.source AND event.event_id = wanted.event_id
""").columns(**_TYPES)  # noqa: S608 - see above


def get_event(connection: Connection, project_id: str, event_id: UUID) -> Accepted:
    """The project's event of that id, which is ours. EventMissing."""
    row = connection.execute(_GET, {"id": event_id, "project": project_id}).one_or_none()
    if row is None:
        raise EventMissing(event_id)
    return _accepted(row)


def find_events(
    connection: Connection, project_id: str, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Accepted]:
    """The events of the project by what they are called: source and the publisher's id."""
    if not names:
        return {}
    sources, event_ids = zip(*names, strict=True)
    binds = {"project": project_id, "sources": list(sources), "event_ids": list(event_ids)}
    rows = connection.execute(_FIND, binds)
    return {(row.source, row.event_id): _accepted(row) for row in rows}


def page_events(
    connection: Connection,
    project_id: str,
    wanted: EventFilter,
    *,
    limit: int,
    before: UUID | None = None,
) -> tuple[list[Accepted], UUID | None]:
    """The next `limit` events older than `before`, newest first, and where it goes on."""
    condition, binds = conditions(wanted)
    statement = sa.text(
        f"SELECT {_COLUMNS} FROM cloud_event AS event"  # noqa: S608 - see above
        f" WHERE project_id = :project AND id < :before{condition}"
        " ORDER BY id DESC LIMIT :limit"
    ).columns(**_TYPES)
    binds |= {"project": project_id, "before": before or LAST, "limit": limit + 1}
    found = [_accepted(row) for row in connection.execute(statement, binds)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def conditions(wanted: EventFilter) -> tuple[str, dict[str, Any]]:
    """What follows a WHERE over cloud_event, and what is bound in it."""
    found: dict[str, Any] = {}
    parts = []
    if wanted.pattern is not None and wanted.pattern != ANY:
        is_prefix = wanted.pattern.endswith(".*")
        parts.append("starts_with(type, :type)" if is_prefix else "type = :type")
        found["type"] = wanted.pattern.removesuffix("*")
    for name in ("source", "event_id"):
        if (value := getattr(wanted, name)) is not None:
            parts.append(f"{name} = :{name}")
            found[name] = value
    if wanted.received_after is not None:
        parts.append("received_at > :received_after AND id >= :first")
        found["received_after"] = wanted.received_after
        found["first"] = first_id(wanted.received_after - CLOCK_SLACK)
    if wanted.received_before is not None:
        parts.append("received_at < :received_before AND id < :last")
        found["received_before"] = wanted.received_before
        found["last"] = first_id(wanted.received_before + CLOCK_SLACK)
    return "".join(f" AND {part}" for part in parts), found


def _accepted(row: sa.Row[Any]) -> Accepted:
    firings = [
        Firing(
            UUID(each["trigger_id"]),
            UUID(each["job_id"]) if each["job_id"] else None,
            each["error"],
        )
        for each in row.firings
    ]
    return Accepted(
        row.id, row.envelope, row.depth, row.error, row.received_at, firings, row.job_id
    )
