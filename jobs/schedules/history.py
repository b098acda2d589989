"""What became of the ticks, as long as that is kept."""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.schedules import store
from jobs.schedules.models import ScheduleTick


class TickView(NamedTuple):
    """One line of a schedule's history."""

    tick_at: datetime  #: the time that was planned
    decided_at: datetime
    outcome: str
    reason: str | None
    job_id: UUID | None
    ticks: int  #: so many the line stands for: this one, and those before it


class TickPage(NamedTuple):
    """Some ticks, newest first."""

    ticks: list[TickView]
    last_at: datetime | None  #: where the next page goes on; None: there is none


_SHOWN = [col(getattr(ScheduleTick, name)) for name in TickView._fields]


def page_ticks(
    connection: Connection,
    project_id: str,
    schedule_id: UUID,
    *,
    limit: int,
    before: datetime | None = None,
) -> TickPage:
    """The next `limit` ticks before that time, newest first. ScheduleMissing."""
    store.get(connection, project_id, schedule_id)
    conditions = [col(ScheduleTick.schedule_id) == schedule_id]
    if before is not None:
        conditions.append(col(ScheduleTick.tick_at) < before)
    newest = col(ScheduleTick.tick_at).desc()
    statement = sa.select(*_SHOWN).where(*conditions).order_by(newest).limit(limit + 1)
    found = [TickView._make(row) for row in connection.execute(statement)]
    return TickPage(found[:limit], found[limit - 1].tick_at if len(found) > limit else None)


def prune_ticks(connection: Connection, age: timedelta, limit: int) -> int:
    """At most `limit` ticks that were decided so long ago are forgotten; how many."""
    return connection.execute(_PRUNE, {"age": age, "limit": limit}).rowcount


_PRUNE = sa.text("""
DELETE FROM schedule_tick WHERE (schedule_id, tick_at) IN (
    SELECT schedule_id, tick_at FROM schedule_tick
    WHERE decided_at < clock_timestamp() - CAST(:age AS interval)
    ORDER BY decided_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")
