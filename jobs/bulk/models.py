"""The tables of bulk operations: what was asked for, how far it is, and which jobs it means."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, DateTime, Index, SmallInteger, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_NOW = {"server_default": func.clock_timestamp()}
_ZERO = {"server_default": text("0")}


class BulkOperation(SQLModel, table=True):
    """One word that is said to many jobs. Dispatchers go on with it while it is `running`."""

    __tablename__ = "bulk_operation"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'stopped', 'done')", "known_state"),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", "finished_or_running"),
        CheckConstraint("position = done + skipped + failed", "each_job_counted_once"),
        CheckConstraint("position <= total AND (state <> 'done' OR position = total)", "all_done"),
        Index("bulk_by_project", "project_id", "id"),
        Index("bulk_to_go_on", "next_at", postgresql_where=text("state = 'running'")),
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7
    project_id: str
    key_id: str | None  #: whose operation it is
    key_name: str
    op: str  #: see jobs.bulk.words.Op
    filter: dict[str, Any] = Field(sa_type=JSONB)  #: as it was asked for
    priority: int | None = Field(sa_type=SmallInteger)  #: of `reprioritise`
    reason: str | None  #: of `cancel`
    rate: float  #: jobs a second, at most
    state: str = Field(sa_column_kwargs={"server_default": "running"})
    total: int  #: jobs that it means; fixed when it is confirmed
    position: int = Field(default=0, sa_column_kwargs=_ZERO)  #: so many of them have had their turn
    done: int = Field(default=0, sa_column_kwargs=_ZERO)
    skipped: int = Field(default=0, sa_column_kwargs=_ZERO)  #: had changed, or were gone
    failed: int = Field(default=0, sa_column_kwargs=_ZERO)  #: were refused for another reason
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    next_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)  #: no batch before it: the rate
    finished_at: datetime | None = Field(default=None, sa_type=_TIME)  #: or stopped


class BulkPart(SQLModel, table=True):
    """Some of the jobs that an operation means, in their order; gone when it has ended."""

    __tablename__ = "bulk_part"

    operation_id: UUID = Field(
        primary_key=True, foreign_key="bulk_operation.id", ondelete="CASCADE"
    )
    number: int = Field(primary_key=True)  #: 0, 1, 2 …
    ids: list[UUID] = Field(sa_type=ARRAY(Uuid))  #: PART of them; fewer in the last one
