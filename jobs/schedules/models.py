"""The tables of schedules, beside those of jobs/models.py."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_JSON = JSONB(none_as_null=True)
_NOW = {"server_default": func.clock_timestamp()}
_FALSE = {"server_default": text("false")}
_EMPTY = {"server_default": text("'{}'")}


class Source(StrEnum):
    """Who made a schedule."""

    API = "api"
    CODE = "code"  #: `@job(…, schedule=…)`


class Misfire(StrEnum):
    """What becomes of ticks that nobody was there to see."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick while an earlier job of the schedule has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL_OLD = "cancel_old"


class Outcome(StrEnum):
    """What became of a tick."""

    FIRED = "fired"
    SKIPPED = "skipped"


class Reason(StrEnum):
    """Why a tick made no job, or made one all the same."""

    MISFIRE = "misfire"
    OVERLAP = "overlap"
    RUN_NOW = "run_now"  #: somebody asked for a job beside the plan
    UNIQUE = "unique"  #: another job has the unique key, and stays


class Schedule(SQLModel, table=True):
    """What is to run when. A form is one of `cron`, `every_seconds`, `at`."""

    __table_args__ = (
        CheckConstraint("num_nonnulls(cron, every_seconds, at) = 1", "one_form"),
        CheckConstraint("(every_seconds IS NULL) = (anchor_at IS NULL)", "anchored_interval"),
        CheckConstraint("priority BETWEEN 0 AND 9", "priority_has_one_digit"),
        UniqueConstraint("project_id", "name", name="schedule_name"),
        Index("schedule_by_project", "project_id", "id"),
        Index(
            "schedule_due",
            "next_at",
            postgresql_where=text("next_at IS NOT NULL AND NOT paused AND gone_at IS NULL"),
        ),
        {"postgresql_with": {"fillfactor": 80}},  # an every-second one is updated every second
    )

    id: UUID = Field(primary_key=True)
    project_id: str
    name: str  #: of a schedule from code: `@` and the kind's
    source: str  #: see Source
    kind: str
    args: dict[str, Any] = Field(sa_type=_JSON)  #: as the jobs get them, secrets included
    redacted_args: dict[str, Any] | None = Field(sa_type=_JSON)  #: as reads show; NULL: `args`
    queue: str | None  #: NULL here and below: the kind's own, at the time of the tick
    priority: int = Field(sa_type=SmallInteger)
    labels: dict[str, str] = Field(sa_type=_JSON, sa_column_kwargs=_EMPTY)
    timeout_seconds: float | None
    max_attempts: int | None
    expires_seconds: float | None  #: from the tick; NULL: never
    ties: dict[str, Any] = Field(sa_type=_JSON, sa_column_kwargs=_EMPTY)  #: see TIES in submissions
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)  #: the webhook's secret
    cron: str | None
    timezone: str  #: IANA; of `cron`, and of the times that handlers are told
    every_seconds: float | None
    anchor_at: datetime | None = Field(sa_type=_TIME)
    at: datetime | None = Field(sa_type=_TIME)
    misfire: str  #: see Misfire
    misfire_max: int  #: so many missed ticks are made up for at most, with `all`
    overlap: str  #: see Overlap
    paused: bool = Field(default=False, sa_column_kwargs=_FALSE)
    next_at: datetime | None = Field(sa_type=_TIME)  #: the first tick that is undecided
    #: Since when no worker's code has it any more; then nothing comes of it.
    gone_at: datetime | None = Field(default=None, sa_type=_TIME)
    #: When a worker with it in its code was last seen, to the hour; NULL: not from code.
    known_at: datetime | None = Field(default=None, sa_type=_TIME)
    version: int = Field(sa_column_kwargs={"server_default": text("1")})  #: grows with each edit
    last_tick_at: datetime | None = Field(default=None, sa_type=_TIME)
    last_job_id: UUID | None = None
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    updated_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class ScheduleTick(SQLModel, table=True):
    """What became of a tick: decided once, whoever decides."""

    __tablename__ = "schedule_tick"
    __table_args__ = (Index("schedule_tick_by_age", "decided_at"),)

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedule.id", ondelete="CASCADE")
    tick_at: datetime = Field(primary_key=True, sa_type=_TIME)  #: the time that was planned
    decided_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    outcome: str  #: see Outcome
    reason: str | None  #: see Reason
    job_id: UUID | None
    ticks: int = Field(sa_column_kwargs={"server_default": text("1")})  #: this, and those before it
