"""Schedules put into a state by hand, and turned once as a dispatcher does."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.registry import Registry
from jobs.schedules import firing, store
from jobs.schedules.asking import Asked
from jobs.schedules.firing import Fired
from jobs.schedules.history import TickView, page_ticks
from jobs.schedules.store import ScheduleView

PROJECT = "default"


def make(connection: Connection, registry: Registry, **asked: Any) -> ScheduleView:
    """A schedule of a name of its own; hourly, if nothing is said."""
    facts: dict[str, Any] = {"name": str(uuid4()), "kind": "test.echo", "args": {"value": 1}}
    if not {"cron", "every", "at"} & asked.keys():
        facts["every"] = timedelta(hours=1)
    return store.create(connection, registry, PROJECT, Asked(**{**facts, **asked}))


def be_late(connection: Connection, schedule: ScheduleView, by: timedelta) -> datetime:
    """The next tick was due so long ago; of an interval, all that follow move with it."""
    statement = (
        "UPDATE schedule SET next_at = date_trunc('second', clock_timestamp()) - :by,"
        " anchor_at = CASE WHEN anchor_at IS NOT NULL"
        " THEN date_trunc('second', clock_timestamp()) - :by END"
        " WHERE id = :id RETURNING next_at"
    )
    due: datetime = connection.execute(
        sa.text(statement), {"by": by, "id": schedule.id}
    ).scalar_one()
    return due


def turn(connection: Connection) -> Fired:
    """What a dispatcher does when something is due."""
    decisions = [firing.decide(each) for each in firing.list_due(connection, 1000)]
    return firing.fire(connection, decisions, uuid4())


def ticks(connection: Connection, schedule: ScheduleView) -> list[TickView]:
    """Its history, oldest first."""
    return page_ticks(connection, PROJECT, schedule.id, limit=1000).ticks[::-1]


def outcomes(connection: Connection, schedule: ScheduleView) -> list[tuple[str, str | None, int]]:
    return [(each.outcome, each.reason, each.ticks) for each in ticks(connection, schedule)]


def jobs_of(connection: Connection, schedule: ScheduleView) -> list[sa.Row[Any]]:
    """Its jobs, oldest first."""
    statement = "SELECT * FROM job WHERE schedule_id = :id ORDER BY id"
    return [*connection.execute(sa.text(statement), {"id": schedule.id})]


def start(connection: Connection, job_id: UUID) -> None:
    connection.execute(
        sa.text(
            "UPDATE job SET state = 'running', attempt = 1, started_at = clock_timestamp(),"
            " worker = gen_random_uuid(),"
            " lease_until = clock_timestamp() + interval '1 h' WHERE id = :id"
        ),
        {"id": job_id},
    )


def end(connection: Connection, job_id: UUID) -> None:
    connection.execute(
        sa.text(
            "UPDATE job SET state = 'cancelled', finished_at = clock_timestamp(),"
            " worker = NULL, lease_until = NULL WHERE id = :id"
        ),
        {"id": job_id},
    )
