"""What an operator gets back: projects, bulk operations, the audit trail."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue

from api.schemas import Job, _Answer
from jobs.bulk.words import Op


class Project(_Answer):
    """Whose jobs, files, keys and rules are whose."""

    id: str
    name: str
    created_at: datetime


class Projects(_Answer):
    items: list[Project]
    next_cursor: str | None


class AuditActor(_Answer):
    """Who did it."""

    key_id: str | None = Field(description="null: Lading itself")
    name: str = Field(description="What the key was called then")


class BulkPreview(_Answer):
    """What an operation would mean now."""

    count: int = Field(ge=0, description="Jobs; `expected_count` of the operation")
    is_capped: bool = Field(description="There are more than `count`: too many for one operation")
    sample: list[Job] = Field(description="The newest of them, without args and results")


class BulkOperation(_Answer):
    """One word that is said to many jobs. `done + skipped + failed` of `total` had their turn."""

    id: UUID
    op: Op
    filter: dict[str, JsonValue] = Field(description="As it was asked for")
    priority: int | None = Field(description="With `reprioritise`")
    reason: str | None = Field(description="With `cancel`")
    rate: float = Field(description="Jobs a second, at most")
    state: Literal["running", "stopped", "done"]
    total: int = Field(ge=0, description="Jobs that it means; fixed when it was confirmed")
    done: int = Field(ge=0)
    skipped: int = Field(ge=0, description="Had changed meanwhile, or were gone")
    failed: int = Field(ge=0, description="Were refused for another reason, as a taken unique key")
    actor: AuditActor
    created_at: datetime
    finished_at: datetime | None = Field(description="Or stopped")
    links: dict[Literal["self", "stop"], str]


class BulkOperations(_Answer):
    items: list[BulkOperation]
    next_cursor: str | None


class AuditEntry(_Answer):
    """Something that somebody did."""

    id: UUID
    at: datetime
    actor: AuditActor
    action: str = Field(description="A noun and a verb", examples=["job.cancel", "key.create"])
    target: str = Field(description="The id or name of what it was done to")
    times: int = Field(ge=1, description="So many of the same are told of together")
    request_id: str | None = Field(description="Of the only request, or of the first")
    address: str | None = Field(description="The client's, as the server saw it")
    details: dict[str, JsonValue]


class AuditPage(_Answer):
    items: list[AuditEntry]
    next_cursor: str | None
