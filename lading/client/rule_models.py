"""What makes jobs by itself, and what keeps them from starting, as the server answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from lading.client.models import Answered, Pause


class Rate(Answered):
    """At most `limit` starts in `period` seconds, evenly, and `burst` of them at once."""

    limit: int
    period: float  #: seconds
    burst: int


class Limit(Answered):
    """What keeps jobs of a queue, a kind or a concurrency key from starting."""

    name: str  #: `key:…`, `kind:…` or `queue:…`
    kind_known: bool | None = None  #: False: the API has no code of the kind; None: not a kind's
    concurrency: int | None = None  #: attempts at a time; None: any number
    rate: Rate | None = None  #: None: any rate
    running: int  #: attempts that count against it
    rung: int  #: jobs that were offered to workers, and count as well
    free: int | None = None  #: so many more may start now; None: any number
    next_start_at: datetime | None = None
    paused: bool
    pause: Pause | None = None
    changed_at: datetime | None = None


class Reason(Answered):
    """One thing that keeps a job from running, or what it does instead."""

    code: str
    detail: str
    advice: str  #: what an operator can do about it
    facts: dict[str, Any]


class Explanation(Answered):
    """Why a job does not run."""

    job_id: UUID
    state: str
    reasons: list[Reason]  #: all that hold, the dispatcher's first one first
    ahead: int | None = None  #: jobs of its project and queue before it; None: not in line


class Schedule(Answered):
    """What runs when."""

    id: UUID
    name: str
    source: str  #: `api`, or `code`
    state: str  #: active, paused, ended or gone
    kind: str
    args: dict[str, Any]
    sentence: str  #: when, in English
    cron: str | None = None
    every: float | None = None  #: seconds
    at: datetime | None = None
    timezone: str
    misfire: str
    overlap: str
    queue: str | None = None
    priority: int
    labels: dict[str, str]
    unique: dict[str, Any] | None = None
    concurrency: dict[str, Any] | None = None
    webhook: dict[str, Any] | None = None
    next_at: datetime | None = None
    next_times: list[datetime]
    last_tick_at: datetime | None = None
    last_job_id: UUID | None = None
    version: int


class Tick(Answered):
    """What became of a tick."""

    tick_at: datetime  #: the time that was planned
    decided_at: datetime
    outcome: str  #: fired or skipped
    reason: str | None = None
    job_id: UUID | None = None
    ticks: int  #: so many the line stands for


class Firing(Answered):
    """What came of an event at a trigger."""

    trigger_id: UUID
    job_id: UUID | None = None
    error: dict[str, Any] | None = None


class PublishedEvent(Answered):
    """An event that was accepted, and what came of it."""

    id: UUID  #: its address at the server; the publisher's id is in `event`
    event: dict[str, Any]  #: the CloudEvent
    received_at: datetime
    depth: int
    error: str | None = None
    jobs: list[UUID]
    firings: list[Firing]


class Trigger(Answered):
    """Which events make which jobs."""

    id: UUID
    name: str | None = None
    type: str
    kind: str
    filter: dict[str, Any]
    args: Any = None
    enabled: bool
    origin: str  #: `api`, or `code`
    queue: str | None = None
    priority: int | None = None
    unique: dict[str, Any] | None = None
    concurrency: dict[str, Any] | None = None
    webhook: dict[str, Any] | None = None
    created_at: datetime
    updated_at: datetime


class Wrong(Answered):
    """One thing that is wrong with what was made of an event."""

    pointer: str
    detail: str


class Trial(Answered):
    """What a trigger would make of an event; nothing was done."""

    matches: bool
    fits_type: bool
    passes_filter: bool
    args: dict[str, Any] | None = None
    valid: bool
    errors: list[Wrong]


class ReplayPreview(Answered):
    """What a replay would bring."""

    count: int  #: events that the trigger has made no job of
    sample: list[PublishedEvent]  #: the oldest of them


class Replay(Answered):
    """What a replay has brought."""

    count: int  #: events
    jobs: int  #: those that it made
