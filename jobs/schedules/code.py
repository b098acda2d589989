"""Schedules that stand in the code, as `@job(…, schedule="0 7 * * 1-5")`, and their rows.

Each worker brings those of its kinds when it starts; where two versions run, the newest start
counts. A schedule is gone once a worker has its kind without it, or no worker has had its kind for
a day: its row stays to be seen, and nothing comes of it until a worker brings it back.
"""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from jobs.errors import InvalidSubmission
from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.schedules.asking import FROM_CODE, Asked, columns_of, first_tick
from jobs.schedules.models import Misfire, Overlap, Schedule, Source
from lading.authoring import Kind
from lading.durations import as_timedelta
from lading.schedules import Schedule as Declared

PROJECT = "default"  # code belongs to who runs Lading
GONE_AFTER = timedelta(days=1)  # no outage of the workers is that long
_KNOWN_TO = timedelta(hours=1)  # finer would be writes for nothing
_KEPT = frozenset({"id", "project_id", "name", "source", "next_at", "known_at"})
_log = structlog.get_logger(__name__)


def register_schedules(connection: Connection, registry: Registry) -> bool:
    """The rows are as this code says; whether any has changed. A pause stays.

    Each statement is right by itself, so that an autocommit connection is enough. A schedule that
    cannot be, so that it would never make a job, is as good as none, and logged.
    """
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    changed, plain = False, list[str]()
    for kind in registry.values():
        columns = None if kind.schedule is None else _columns(registry, kind, kind.schedule, now)
        if columns is None:
            plain.append(kind.name)
        else:
            changed = _write(connection, columns) or changed
    return connection.execute(_DROP, {"kinds": plain}).rowcount > 0 or changed


def _columns(
    registry: Registry, kind: Kind, schedule: Declared, now: datetime
) -> dict[str, Any] | None:
    expires = schedule.expires_in
    asked = Asked(
        name=f"{FROM_CODE}{kind.name}",
        kind=kind.name,
        args=schedule.args,
        cron=schedule.cron,
        timezone=schedule.timezone,
        misfire=Misfire(schedule.misfire),
        misfire_max=schedule.misfire_max,
        overlap=Overlap(schedule.overlap),
        priority=schedule.priority,
        labels=schedule.labels,
        expires_in=None if expires is None else as_timedelta(expires),
        unique=schedule.unique,
        concurrency=schedule.concurrency,
        webhook=schedule.webhook,
    )
    try:
        columns = columns_of(registry, asked, now, is_code=True)
    except InvalidSubmission as error:
        _log.error("a schedule in code cannot be", kind=kind.name, reason=str(error))
        return None
    columns |= {"id": uuid7(), "project_id": PROJECT, "source": Source.CODE}
    return columns | {"next_at": first_tick(columns, now), "known_at": now}


def _write(connection: Connection, columns: dict[str, Any]) -> bool:
    """Whether the row is another one now. Its next tick stays, unless it has other times."""
    statement = insert(Schedule).values(columns)
    new, old = statement.excluded, statement.table.c
    retimed = sa.or_(
        *(old[name].is_distinct_from(new[name]) for name in ("cron", "timezone")),
        old.gone_at.is_not(None),
    )
    said = {name: new[name] for name in columns.keys() - _KEPT}
    statement = statement.on_conflict_do_update(
        constraint="schedule_name",
        set_=said
        | {
            "next_at": sa.case((retimed, new.next_at), else_=old.next_at),
            "known_at": new.known_at,
            "gone_at": None,
            "version": old.version + 1,
            "updated_at": sa.func.clock_timestamp(),
        },
        where=sa.or_(retimed, *(old[name].is_distinct_from(new[name]) for name in said)),
    )
    return connection.execute(statement.returning(old.id)).first() is not None


def forget_gone(connection: Connection, lease: timedelta) -> int:
    """What no worker has had for GONE_AFTER is gone, what a live one has is not; how many went."""
    connection.execute(_SEE, {"lease": lease, "known_to": _KNOWN_TO})
    return connection.execute(_FORGET, {"after": GONE_AFTER}).rowcount


_GO = f"""
UPDATE schedule SET gone_at = clock_timestamp(), version = version + 1,
                    updated_at = clock_timestamp()
WHERE source = '{Source.CODE}' AND gone_at IS NULL
"""  # noqa: S608 - a constant
_DROP = sa.text(f"{_GO} AND kind = ANY (CAST(:kinds AS text[]))")
_FORGET = sa.text(f"{_GO} AND known_at < clock_timestamp() - CAST(:after AS interval)")
_SEE = sa.text(f"""
UPDATE schedule SET known_at = clock_timestamp()
WHERE source = '{Source.CODE}' AND gone_at IS NULL
  AND known_at < clock_timestamp() - CAST(:known_to AS interval)
  AND EXISTS (SELECT FROM worker WHERE schedule.kind = ANY (worker.kinds)
              AND worker.seen_at > clock_timestamp() - CAST(:lease AS interval))
""")  # noqa: S608 - a constant
