"""What is answered about limits, pauses and waiting: who may start when."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from jobs.states import JobState


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pause(_Answer):
    """That nothing of something starts."""

    reason: str | None
    by: str | None = Field(description="The name of the API key")
    at: datetime | None


class Rate(_Answer):
    """At most `limit` starts in `period` seconds, evenly, and `burst` of them at once."""

    limit: int = Field(ge=1)
    period: float = Field(gt=0, description="Seconds")
    burst: int = Field(ge=1)


class Limit(_Answer):
    """What keeps jobs of a queue, a kind or a concurrency key from starting."""

    name: str = Field(description="`key:…`, `kind:…` or `queue:…`", examples=["key:tenant-7"])
    kind_known: bool | None = Field(
        description="false: no code of the kind is here, yet or any more; null: not a kind's"
    )
    concurrency: int | None = Field(
        description="Attempts at a time; of a kind, its own where none is set; null: any number"
    )
    rate: Rate | None = Field(description="null: any rate")
    running: int = Field(ge=0, description="Attempts that count against it; 0 without a limit")
    rung: int = Field(ge=0, description="Jobs that were offered to workers, and count as well")
    free: int | None = Field(description="So many more may start now; null: any number")
    next_start_at: datetime | None = Field(description="As the rate allows it; null: no rate")
    paused: bool
    pause: Pause | None = Field(description="While it is paused")
    changed_at: datetime | None = Field(description="null: never")


class LimitPage(_Answer):
    """Some limits, by name."""

    items: list[Limit]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Concurrency(_Answer):
    """What a job shares with the others of its key."""

    key: str
    limit: int | None = Field(description="That came with this job; the newest job's counts")


class Queue(_Answer):
    """What waits in a queue, and who serves it."""

    name: str
    queued: int = Field(ge=0)
    running: int = Field(ge=0)
    scheduled: int = Field(ge=0)
    oldest_wait_seconds: float | None = Field(description="Of a job that could start")
    paused: bool
    pause: Pause | None = Field(description="While it is paused")
    workers: int = Field(ge=0, description="That are alive")


class Queues(_Answer):
    items: list[Queue]


class Reason(_Answer):
    """One thing that keeps a job from running, or what it does instead."""

    code: Literal[
        "paused",
        "limit-full",
        "rate",
        "waits-for",
        "no-worker",
        "unknown-kind",
        "not-due",
        "offered",
        "in-line",
        "running",
        "succeeded",
        "failed",
        "cancelled",
    ]
    detail: str
    advice: str = Field(description="What an operator can do about it")
    facts: dict[str, JsonValue] = Field(description="The same for programs, by code")


class Explanation(_Answer):
    """Why a job does not run."""

    job_id: UUID
    state: JobState
    reasons: list[Reason] = Field(description="All that hold, the dispatcher's first one first")
    ahead: int | None = Field(
        description="Jobs of its project and queue that come first, 10,000 at most; null: it is not"
        " in line"
    )
