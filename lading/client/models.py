"""What the server answers with, as the client hands it out.

Fields that a newer server adds are kept. Times are aware, in UTC.
"""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from lading.client.errors import JobFailed

State = Literal[
    "waiting", "scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"
]
FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Answered(BaseModel):
    """What a server has answered; fields that are new to this client are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Error(Answered):
    """Why an attempt failed."""

    cause: str
    type: str
    message: str
    traceback: str | None = None


class Progress(Answered):
    """How far the newest attempt is, in its own words."""

    fraction: float
    message: str | None = None


class Job(Answered):
    """A job as it was when the server answered."""

    id: UUID
    kind: str
    state: State
    queue: str
    priority: int
    args: dict[str, Any] = Field(default_factory=dict)  #: empty in lists, unless asked for
    result: Any = None  #: of a job that has succeeded; None in lists, unless asked for
    error: Error | None = None
    progress: Progress | None = None
    attempt: int
    failures: int
    crashes: int
    max_attempts: int
    labels: dict[str, str]
    version: int
    seq: int  #: of the newest event
    cancel_requested: bool
    created_at: datetime
    run_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    parent_id: UUID | None = None
    rerun_of: UUID | None = None
    schedule_id: UUID | None = None
    concurrency: dict[str, Any] | None = None
    unique: dict[str, str] | None = None
    after: list[UUID] = Field(default_factory=list)
    batch_id: UUID | None = None
    links: dict[str, str | None] = Field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in FINAL

    def check(self) -> Self:
        """The job itself, which has succeeded; else JobFailed, with the reason."""
        if self.state != "succeeded":
            why = f": {self.error.type}: {self.error.message}" if self.error else ""
            raise JobFailed(f"job {self.id} ({self.kind}) is {self.state}{why}")
        return self


class Batch(Answered):
    """Jobs that were submitted together, as they were when the server answered."""

    id: UUID
    state: str  #: running, succeeded, failed or cancelled
    failure_policy: str
    open: bool  #: more jobs may follow
    jobs: int
    counts: dict[str, int]  #: by the jobs' states
    on_complete: UUID | None = None  #: the job that runs once all have ended
    on_success: UUID | None = None  #: the job that runs once all have succeeded
    cancel_reason: str | None = None
    created_at: datetime
    finished_at: datetime | None = None


class Event(Answered):
    """One line of a job's history."""

    job_id: UUID
    seq: int
    type: str
    at: datetime
    attempt: int
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether the job had ended with it; a manual retry may have followed."""
        return self.type in FINAL


class Attempt(Answered):
    """One start of a job; what is not known while it runs is None."""

    attempt: int
    worker: UUID
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None
    cause: str | None = None
    error: Error | None = None
    max_rss_bytes: int | None = None
    cpu_seconds: float | None = None


class LogLine(Answered):
    """A line that a handler wrote."""

    seq: int
    at: datetime
    attempt: int
    level: str
    message: str
    fields: dict[str, Any]


class Pause(Answered):
    """That nothing of something starts."""

    reason: str | None = None
    by: str | None = None  #: the name of the API key
    at: datetime | None = None


class Kind(Answered):
    """A type of jobs, as the server knows it."""

    name: str
    description: str | None = None
    queue: str
    defaults: dict[str, Any]
    args_schema: dict[str, Any]
    result_schema: dict[str, Any] | None = None


class Queue(Answered):
    """What waits in a queue, and who serves it."""

    name: str
    queued: int
    running: int
    scheduled: int
    oldest_wait_seconds: float | None = None
    paused: bool
    pause: Pause | None = None
    workers: int


class Worker(Answered):
    """One start of a worker process that is alive."""

    id: UUID
    host: str
    pid: int
    pool: str
    queues: list[str]
    slots: int
    running: int
    started_at: datetime
    seen_at: datetime


class File(Answered):
    """A stored file."""

    id: UUID
    name: str
    size: int
    sha256: str
    media_type: str
    job_id: UUID | None = None
    created_at: datetime


class Ticket(Answered):
    """What a page opens one WebSocket with."""

    ticket: str


class Health(Answered):
    """Whether requests should be sent there."""

    status: str  #: ready, degraded (the broker is away: jobs wait) or unavailable
