"""Schedules as people make, change and read them. Nothing here commits.

A change takes effect at the next tick: dispatchers act only on a schedule whose `version` is the
one that they have read. Whoever changes one calls from a transaction and tells SCHEDULES after it.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from jobs.catalogue import register_kinds
from jobs.enqueue import Accepted
from jobs.errors import (
    ScheduleExists,
    ScheduleFromCode,
    ScheduleMissing,
)
from jobs.ids import uuid7
from jobs.models import KnownKind
from jobs.registry import Registry
from jobs.schedules.asking import FORMS, Asked, columns_of, first_tick
from jobs.schedules.firing import fire_now, read_one
from jobs.schedules.forms import Form, timing_of
from jobs.schedules.models import Misfire, Overlap, Schedule, Source
from jobs.timing import next_times

SHOWN_TIMES = 5
_TIMES = frozenset({*FORMS, "timezone", "anchor"})  # what of a request says when


class ScheduleView(NamedTuple):
    """A schedule as readers see it; secrets among its args are redacted."""

    id: UUID
    name: str
    source: str
    kind: str
    args: dict[str, Any]
    queue: str | None
    priority: int
    labels: dict[str, str]
    ties: dict[str, Any]
    is_signed: bool  #: what it sends to its jobs' webhook
    timeout_seconds: float | None
    max_attempts: int | None
    expires_seconds: float | None
    cron: str | None
    timezone: str
    every_seconds: float | None
    anchor_at: datetime | None
    at: datetime | None
    misfire: str
    misfire_max: int
    overlap: str
    paused: bool
    next_at: datetime | None
    gone_at: datetime | None
    version: int
    last_tick_at: datetime | None
    last_job_id: UUID | None
    created_at: datetime
    updated_at: datetime

    def times(self) -> list[datetime]:
        """The next five ticks, as if it were not paused."""
        timing = timing_of(form_of(self))
        return [] if self.gone_at else next_times(timing, self.next_at, SHOWN_TIMES)


class SchedulePage(NamedTuple):
    """Some schedules, newest first."""

    schedules: list[ScheduleView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


def form_of(row: ScheduleView | sa.Row[Any]) -> Form:
    """The columns that say when."""
    return Form(row.cron, row.timezone, row.every_seconds, row.anchor_at, row.at)


def create(
    connection: Connection,
    registry: Registry,
    project_id: str,
    asked: Asked,
    schedule_id: UUID | None = None,
) -> ScheduleView:
    """The schedule stands, and its first tick is to come.

    `schedule_id` is what its secret is sealed for, where it has one. InvalidSubmission with
    pointers into the request; ScheduleExists.
    """
    now = _now(connection)
    columns = columns_of(registry, asked, now)
    _make_known(connection, registry, asked.kind)
    row = {
        **columns,
        "id": schedule_id or uuid7(),
        "project_id": project_id,
        "source": Source.API,
        "next_at": first_tick(columns, now),
    }
    statement = insert(Schedule).values(row).on_conflict_do_nothing().returning(*_SHOWN)
    made = connection.execute(statement).one_or_none()
    if made is None:
        raise ScheduleExists(asked.name)
    return ScheduleView._make(made)


def edit(
    connection: Connection,
    registry: Registry,
    project_id: str,
    schedule_id: UUID,
    changes: Mapping[str, Any],
) -> ScheduleView:
    """The fields of Asked that `changes` names are as it says, all others as they were.

    One of `cron`, `every`, `at` takes the place of the one before. When the times change, the next
    tick is the first one from now; what was missed before is passed over. Locks the schedule.
    InvalidSubmission, ScheduleMissing, ScheduleExists, ScheduleFromCode.
    """
    row = _lock(connection, project_id, schedule_id)
    if row.source == Source.CODE:
        raise ScheduleFromCode(row.name)
    now = _now(connection)
    asked = replace(_asked(row), **_completed(changes))
    columns = columns_of(registry, asked, now)
    if _TIMES & changes.keys():
        columns["next_at"] = first_tick(columns, now)
    _make_known(connection, registry, asked.kind)
    try:
        return _update(connection, schedule_id, columns)
    except IntegrityError as error:
        raise ScheduleExists(asked.name) from error


def pause(connection: Connection, project_id: str, schedule_id: UUID) -> ScheduleView:
    """No tick of it makes a job until it is resumed. ScheduleMissing."""
    _lock(connection, project_id, schedule_id)
    return _update(connection, schedule_id, {"paused": True})


def resume(connection: Connection, project_id: str, schedule_id: UUID) -> ScheduleView:
    """It goes on; its misfire policy decides on the ticks of the meantime. ScheduleMissing."""
    _lock(connection, project_id, schedule_id)
    return _update(connection, schedule_id, {"paused": False})


def delete(connection: Connection, project_id: str, schedule_id: UUID) -> str:
    """The schedule and its history are gone, its jobs stay; its name. ScheduleMissing.

    ScheduleFromCode while the code has it.
    """
    row = _lock(connection, project_id, schedule_id)
    if row.source == Source.CODE and row.gone_at is None:
        raise ScheduleFromCode(row.name)
    connection.execute(sa.delete(Schedule).where(col(Schedule.id) == schedule_id))
    name: str = row.name
    return name


def hold(connection: Connection, project_id: str, schedule_id: UUID) -> str:
    """The kind of the schedule, which stays so until the transaction's end. ScheduleMissing."""
    kind: str = _lock(connection, project_id, schedule_id).kind
    return kind


def run_now(
    connection: Connection, project_id: str, schedule_id: UUID, process_id: UUID
) -> Accepted:
    """One more job, now, beside the plan: also of a paused schedule. ScheduleMissing.

    UniqueConflict: another job has the schedule's unique key, and stays.
    """
    schedule = read_one(connection, project_id, schedule_id)
    if schedule is None:
        raise ScheduleMissing(schedule_id)
    return fire_now(connection, schedule, process_id)


def get(connection: Connection, project_id: str, schedule_id: UUID) -> ScheduleView:
    """The schedule as it is now. ScheduleMissing."""
    statement = sa.select(*_SHOWN).where(*_is(project_id, schedule_id))
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise ScheduleMissing(schedule_id)
    return ScheduleView._make(row)


def page(
    connection: Connection,
    project_id: str,
    *,
    limit: int,
    kind: str | None = None,
    before: UUID | None = None,
) -> SchedulePage:
    """The next `limit` schedules older than `before`, newest first."""
    conditions = [col(Schedule.project_id) == project_id]
    if kind is not None:
        conditions.append(col(Schedule.kind) == kind)
    if before is not None:
        conditions.append(col(Schedule.id) < before)
    newest = col(Schedule.id).desc()
    statement = sa.select(*_SHOWN).where(*conditions).order_by(newest).limit(limit + 1)
    found = [ScheduleView._make(row) for row in connection.execute(statement)]
    return SchedulePage(found[:limit], found[limit - 1].id if len(found) > limit else None)


def _completed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """With what a new form takes away."""
    new = [name for name in FORMS if changes.get(name) is not None]
    gone = {name: None for name in FORMS if name not in changes} if new else {}
    if new and new != ["every"] and "anchor" not in changes:
        gone["anchor"] = None
    return {**gone, **changes}


def _asked(row: sa.Row[Any]) -> Asked:
    """What was asked for, secrets included."""
    columns = {each.name: getattr(row, each.name, None) for each in fields(Asked)}
    return Asked(
        **{
            **columns,
            **row.ties,
            "every": _duration(row.every_seconds),
            "anchor": row.anchor_at,
            "timeout": _duration(row.timeout_seconds),
            "expires_in": _duration(row.expires_seconds),
            "misfire": Misfire(row.misfire),
            "overlap": Overlap(row.overlap),
        }
    )


def _make_known(connection: Connection, registry: Registry, kind: str) -> None:
    """The database knows the kind's defaults, which ticks take; workers' news of it stand."""
    known = sa.select(sa.literal(1)).where(col(KnownKind.name) == kind)
    if connection.execute(known).first() is None:
        register_kinds(connection, Registry([registry[kind]]))


def _lock(connection: Connection, project_id: str, schedule_id: UUID) -> sa.Row[Any]:
    table = Schedule.__table__  # type: ignore[attr-defined]
    statement = sa.select(table).where(*_is(project_id, schedule_id)).with_for_update()
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise ScheduleMissing(schedule_id)
    return row


def _update(connection: Connection, schedule_id: UUID, columns: Mapping[str, Any]) -> ScheduleView:
    changed = {
        **columns,
        "version": col(Schedule.version) + 1,
        "updated_at": sa.func.clock_timestamp(),
    }
    statement = sa.update(Schedule).where(col(Schedule.id) == schedule_id).values(changed)
    return ScheduleView._make(connection.execute(statement.returning(*_SHOWN)).one())


def _is(project_id: str, schedule_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return col(Schedule.id) == schedule_id, col(Schedule.project_id) == project_id


def _now(connection: Connection) -> datetime:
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


_COMPUTED = {
    "args": sa.func.coalesce(col(Schedule.redacted_args), col(Schedule.args)).label("args"),
    "is_signed": col(Schedule.sealed).is_not(None).label("is_signed"),
}
_SHOWN = [
    _COMPUTED[name] if name in _COMPUTED else col(getattr(Schedule, name))
    for name in ScheduleView._fields
]
