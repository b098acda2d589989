"""Schedules that stand in the code, as `@job(…, schedule="0 7 * * 1-5")`, and their rows.

Each worker brings those of its kinds when it starts; where two versions run, the newest start
counts. A schedule is gone once a worker has its kind without it, or no worker has had its kind for
a day: its row stays to be seen, and nothing comes of it until a worker brings it back.
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.schedules.asking import FROM_CODE, Asked, columns_of, first_tick
from jobs.schedules.models import Schedule, Source

PROJECT = "default"  # code belongs to who runs Lading
GONE_AFTER = timedelta(days=1)  # no outage of the workers is that long
_KNOWN_TO = timedelta(hours=1)  # finer would be writes for nothing


def register_schedules(connection: Connection, registry: Registry) -> bool:
    """The rows are as this code says; whether any has changed. A pause stays.

    Each statement is right by itself, so that an autocommit connection is enough.
    """
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    changed = False
    for kind in registry.values():
        if kind.schedule is None:
            continue
        asked = Asked(
            name=f"{FROM_CODE}{kind.name}",
            kind=kind.name,
            args={},
            cron=kind.schedule,
            timezone=kind.timezone,
        )
        columns = columns_of(registry, asked, now, is_code=True)
        columns |= {"id": uuid7(), "project_id": PROJECT, "source": Source.CODE}
        columns |= {"next_at": first_tick(columns, now), "known_at": now}
        statement = insert(Schedule).values(columns)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            constraint="schedule_name",
            set_={
                "cron": new.cron,
                "timezone": new.timezone,
                "next_at": new.next_at,
                "known_at": new.known_at,
                "gone_at": None,
                "version": col(Schedule.version) + 1,
                "updated_at": sa.func.clock_timestamp(),
            },
            where=sa.or_(
                col(Schedule.cron).is_distinct_from(new.cron),
                col(Schedule.timezone).is_distinct_from(new.timezone),
                col(Schedule.gone_at).is_not(None),
            ),
        )
        written = connection.execute(statement.returning(col(Schedule.id))).first()
        changed = changed or written is not None
    plain = [kind.name for kind in registry.values() if kind.schedule is None]
    return connection.execute(_DROP, {"kinds": plain}).rowcount > 0 or changed


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
