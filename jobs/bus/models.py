"""The bus's tables. As in jobs.models, rows are written by statements of this package alone."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_JSON = JSONB(none_as_null=True)
_NOW = {"server_default": func.clock_timestamp()}
_EMPTY = {"server_default": text("'{}'")}
_TRUE = {"server_default": text("true")}
_FALSE = {"server_default": text("false")}
_ZERO = {"server_default": text("0")}
_THIS_XACT = {"server_default": text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")}


class CloudEvent(SQLModel, table=True):
    """An event that was accepted. Nothing about it changes, but that it has met its triggers."""

    __tablename__ = "cloud_event"
    __table_args__ = (
        UniqueConstraint("project_id", "source", "event_id", name="cloud_event_once"),
        Index("cloud_event_by_project", "project_id", "id"),
        Index("cloud_event_by_type", "project_id", "type", "id"),
        Index("cloud_event_by_xact", "xact_id"),
        Index("cloud_event_pending", "id", postgresql_where=text("is_pending")),
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7, ours: its address
    project_id: str
    source: str  #: who says it; with `event_id` it is the same event for ever
    event_id: str  #: the publisher's id
    type: str
    envelope: dict[str, Any] = Field(sa_type=_JSON)  #: the CloudEvent in its JSON format, with data
    depth: int = Field(sa_type=SmallInteger, sa_column_kwargs=_ZERO)  #: jobs in a row before it
    error: str | None = None  #: why it was kept from firing anything
    received_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    #: The transaction that wrote it: by it the stream of events finds what is new.
    xact_id: int = Field(sa_type=BigInteger, sa_column_kwargs=_THIS_XACT)
    job_id: UUID | None = None  #: whose handler published it
    is_pending: bool = Field(sa_column_kwargs=_FALSE)  #: a dispatcher lets it meet its triggers


class EventConsumer(SQLModel, table=True):
    """Somebody who follows events under a name, so that the position is kept here."""

    __tablename__ = "event_consumer"
    __table_args__ = (UniqueConstraint("project_id", "name", name="event_consumer_name"),)

    id: UUID = Field(primary_key=True)  #: UUIDv7
    project_id: str
    name: str
    patterns: list[str] = Field(sa_type=ARRAY(Text))  #: of types; what they name becomes a fact
    position: str  #: all before it was acknowledged; see jobs.feed.Position
    member_id: UUID  #: the newest who follows under the name: only he acknowledges
    joined_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)  #: so he did
    acknowledged_at: datetime | None = Field(default=None, sa_type=_TIME)
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class Trigger(SQLModel, table=True):
    """What turns events into jobs of one kind. One in code is known by `code_key`."""

    __table_args__ = (
        UniqueConstraint("project_id", "code_key", name="trigger_in_code_once"),
        Index("trigger_by_project", "project_id", "id"),
        Index("trigger_by_pattern", "project_id", "pattern", postgresql_where=text("enabled")),
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7
    project_id: str
    name: str | None = None  #: what people know it by
    pattern: str  #: of types, see lading.patterns
    kind: str
    filter: dict[str, Any] = Field(sa_type=_JSON, sa_column_kwargs=_EMPTY)
    args: Any = Field(sa_type=_JSON, nullable=True)  #: the mapping; NULL: `data` as it is
    options: dict[str, Any] = Field(sa_type=_JSON, sa_column_kwargs=_EMPTY)  #: of the submission
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)  #: its webhook's secret
    enabled: bool = Field(sa_column_kwargs=_TRUE)
    code_key: str | None = None  #: where it stands in code; NULL: made over REST
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    updated_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class TriggerFiring(SQLModel, table=True):
    """An event met a trigger: once, whatever is delivered twice. It outlives trigger and job."""

    __tablename__ = "trigger_firing"
    __table_args__ = (
        Index("trigger_firing_by_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
    )

    event_id: UUID = Field(primary_key=True, foreign_key="cloud_event.id", ondelete="CASCADE")
    trigger_id: UUID = Field(primary_key=True)
    job_id: UUID | None = None  #: what it made; NULL: `error` says why not
    error: dict[str, Any] | None = Field(default=None, sa_type=_JSON)
    at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class BusPosition(SQLModel, table=True):
    """How far a reader of the log has come that turns it into something else."""

    __tablename__ = "bus_position"

    name: str = Field(primary_key=True)
    position: str  #: see jobs.feed.Position
