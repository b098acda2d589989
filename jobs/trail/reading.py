"""Reading the trail, newest first, by keyset; and forgetting what is old."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.ids import first_id
from jobs.trail.models import AuditEntry

CLOCK_SLACK = timedelta(days=1)  # no API process's clock is further from the database's


class EntryView(NamedTuple):
    """An entry as readers see it."""

    id: UUID
    at: datetime
    key_id: str | None
    key_name: str
    action: str
    target: str
    times: int
    request_id: str | None
    address: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrailFilter:
    """Which entries; what is None does not narrow them."""

    actor: str | None = None  #: a key's id
    action: str | None = None
    target: str | None = None
    after: datetime | None = None
    before: datetime | None = None


class TrailPage(NamedTuple):
    """Some entries, newest first."""

    entries: list[EntryView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


_SHOWN = [col(getattr(AuditEntry, name)) for name in EntryView._fields]


def page_trail(
    connection: Connection,
    project_id: str,
    wanted: TrailFilter,
    *,
    limit: int,
    before_id: UUID | None = None,
) -> TrailPage:
    """The project's next `limit` entries older than `before_id`."""
    statement = (
        sa.select(*_SHOWN)
        .where(col(AuditEntry.project_id) == project_id, *_conditions(wanted))
        .order_by(col(AuditEntry.id).desc())
        .limit(limit + 1)
    )
    if before_id is not None:
        statement = statement.where(col(AuditEntry.id) < before_id)
    entries = [EntryView._make(row) for row in connection.execute(statement)]
    return TrailPage(entries[:limit], entries[limit - 1].id if len(entries) > limit else None)


def _conditions(wanted: TrailFilter) -> list[sa.ColumnElement[bool]]:
    equal = {
        AuditEntry.key_id: wanted.actor,
        AuditEntry.action: wanted.action,
        AuditEntry.target: wanted.target,
    }
    conditions = [col(column) == value for column, value in equal.items() if value is not None]
    if wanted.after is not None:
        conditions.append(col(AuditEntry.at) > wanted.after)
        conditions.append(col(AuditEntry.id) >= first_id(wanted.after - CLOCK_SLACK))
    if wanted.before is not None:
        conditions.append(col(AuditEntry.at) < wanted.before)
        conditions.append(col(AuditEntry.id) < first_id(wanted.before + CLOCK_SLACK))
    return conditions


_PRUNE = sa.text("""
DELETE FROM audit WHERE id IN (
    SELECT id FROM audit
    WHERE id < :youngest AND at < clock_timestamp() - CAST(:age AS interval)
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune_trail(connection: Connection, age: timedelta, limit: int) -> int:
    """At most `limit` entries that are older than `age` are forgotten; how many."""
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    binds = {"youngest": first_id(now - age + CLOCK_SLACK), "age": age, "limit": limit}
    return connection.execute(_PRUNE, binds).rowcount
