"""Who waits for whom, and batches."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, func, text
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_NOW = {"server_default": func.clock_timestamp()}
_FALSE = {"server_default": text("false")}
_PROJECT = {"server_default": "default"}


class JobDependency(SQLModel, table=True):
    """A job that waits for another, or a callback for its batch; gone once it has been told."""

    __tablename__ = "job_dependency"
    __table_args__ = (
        Index("job_dependency_to_tell", "parent_id", postgresql_where=text("NOT is_told")),
        Index("job_dependency_of", "job_id"),
    )

    parent_id: UUID = Field(primary_key=True)  #: a job's, or a batch's
    job_id: UUID = Field(primary_key=True)
    is_told: bool = Field(default=False, sa_column_kwargs=_FALSE)  #: the parent is_awaited
    any_end: bool = Field(default=False, sa_column_kwargs=_FALSE)  #: it need not succeed


class Batch(SQLModel, table=True):
    """Jobs that were submitted together; ends with the last of them, once and for all."""

    __table_args__ = (
        CheckConstraint("failure_policy IN ('continue', 'fail_fast')", "failure_policy_is_known"),
        CheckConstraint("finished_at IS NULL OR NOT is_open", "closed_when_finished"),
        Index("batch_by_project", "project_id", "id"),
        Index("batch_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7
    project_id: str = Field(default="default", sa_column_kwargs=_PROJECT)
    failure_policy: str  #: fail_fast: the first failed job ends the others
    is_open: bool = Field(default=False, sa_column_kwargs=_FALSE)  #: more jobs will follow
    jobs: int  #: that belong to it, those that were deleted included
    on_complete: UUID | None = None  #: the job that runs when all have ended
    on_success: UUID | None = None  #: the job that runs when all have succeeded
    cancel_reason: str | None = None  #: why its jobs are to end
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    finished_at: datetime | None = Field(default=None, sa_type=_TIME)  #: all had ended
