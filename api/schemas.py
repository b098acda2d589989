"""What this API answers with: the shapes that the OpenAPI document promises.

Hot answers are written from rows without passing through these models (api/documents.py); tests
hold the two together.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.standing import Concurrency, Pause
from jobs.attempts import Cause, Outcome
from jobs.enqueue import FailurePolicy
from jobs.keys.scopes import Scope
from jobs.states import JobState


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """Why an attempt failed."""

    cause: Cause
    type: str = Field(description="The exception's name")
    message: str
    traceback: str | None = Field(default=None, description="The handler's own frames")


class Progress(_Answer):
    """How far the newest attempt is, in its own words."""

    fraction: float = Field(ge=0, le=1)
    message: str | None


class Links(_Answer):
    """Where to go on; paths on this server, but for `flower`."""

    self: str
    events: str = Field(description="The history, as JSON or as a stream of Server-Sent Events")
    ws: str = Field(description="The same over a WebSocket")
    attempts: str
    logs: str
    cancel: str
    retry: str
    run_now: str
    rerun: str
    flower: str | None = Field(default=None, description="The newest attempt in Flower")


class UniqueKey(_Answer):
    """What only one job may have at a time."""

    key: str
    scope: Literal["active", "queued"] = Field(description="Until it has ended, or started")


class RuleWebhook(_Answer):
    """Who is told how each job of a rule has ended."""

    url: str
    signed: bool = Field(description="There is a secret, which is shown nowhere")


class Job(_Answer):
    """A job as it is now."""

    id: UUID
    kind: str
    state: JobState
    queue: str
    priority: int = Field(ge=0, le=9, description="9 goes first")
    args: dict[str, JsonValue] = Field(
        default={},
        description="With secrets redacted; left out in lists, unless `full` is asked for",
    )
    result: JsonValue = Field(
        default=None,
        description="What the handler returned, once the job has succeeded; left out like `args`",
    )
    error: Error | None = Field(description="Of the newest failure")
    progress: Progress | None
    attempt: int = Field(ge=0, description="Starts so far")
    failures: int = Field(ge=0, description="Attempts that failed; `max_attempts` end the job")
    crashes: int = Field(ge=0, description="Attempts whose process died; the third ends the job")
    max_attempts: int = Field(ge=1)
    labels: dict[str, str]
    version: int = Field(ge=1, description="Grows with every event; the ETag")
    seq: int = Field(ge=1, description="Of the newest event: the same number")
    cancel_requested: bool
    created_at: datetime
    run_at: datetime | None = Field(description="Not earlier")
    queued_at: datetime | None = Field(
        description="When it last became free to start; what is given back keeps its place"
    )
    started_at: datetime | None = Field(description="When the newest attempt did")
    finished_at: datetime | None
    parent_id: UUID | None = Field(description="The job that submitted it")
    rerun_of: UUID | None = Field(description="The job that it repeats")
    schedule_id: UUID | None = Field(description="The schedule whose tick made it")
    unique: UniqueKey | None
    after: list[UUID] = Field(description="The jobs that had to succeed before it")
    batch_id: UUID | None = Field(description="The batch that it belongs to")
    concurrency: Concurrency | None
    links: Links


class Batch(_Answer):
    """Jobs that were submitted together."""

    id: UUID
    state: Literal["running", "succeeded", "failed", "cancelled"] = Field(
        description="running: until all have ended; succeeded: all have; cancelled: that was asked"
        " for; failed: otherwise"
    )
    failure_policy: FailurePolicy
    open: bool = Field(description="More jobs may follow")
    jobs: int = Field(ge=0, description="That belong to it, those that were deleted included")
    counts: dict[JobState, int] = Field(description="Its jobs by their states, as they are now")
    on_complete: UUID | None = Field(description="The job that runs once all have ended")
    on_success: UUID | None = Field(description="The job that runs once all have succeeded")
    cancel_reason: str | None = Field(description="Why its jobs are to end")
    created_at: datetime
    finished_at: datetime | None = Field(description="When all had ended")
    links: dict[Literal["self", "jobs", "cancel"], str]


class BatchPage(_Answer):
    """Some batches, newest first."""

    items: list[Batch]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Jobs(_Answer):
    """The jobs of a batch, in its order."""

    jobs: list[Job]
    batch: Batch | None = Field(default=None, description="If one was asked for")


class JobPage(_Answer):
    """Some jobs, newest first."""

    items: list[Job]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Children(JobPage):
    """Some of the jobs that a job has submitted, newest first, and how they all stand."""

    counts: dict[JobState, int] = Field(description="All of them by their states, as they are now")


class LastLine(_Answer):
    """A line that an attempt's handler wrote."""

    at: datetime
    level: str
    message: str


class Attempt(_Answer):
    """One start of a job; what is not known while it runs is null."""

    attempt: int = Field(ge=1)
    worker: UUID
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    cause: Cause | None
    error: Error | None
    max_rss_bytes: int | None = Field(
        description="The most that its process and those that it made had resident, as far as it"
        " was seen; null on threads"
    )
    cpu_seconds: float | None = Field(description="null: not known, as of coroutines on threads")
    last_logs: list[LastLine] = Field(description="Its newest lines, at most 10, oldest first")


class Attempts(_Answer):
    items: list[Attempt]


class LogLine(_Answer):
    """A line that a handler wrote."""

    seq: int = Field(ge=1, description="Of the event that brought it; lines may share one")
    at: datetime
    attempt: int = Field(ge=1)
    level: str
    message: str
    fields: dict[str, JsonValue]


class Log(_Answer):
    items: list[LogLine]


class RetryDefaults(_Answer):
    """Full jitter over min(cap, base · 2^(failures−1)) seconds."""

    base: float
    cap: float


class KindDefaults(_Answer):
    """What a submission that does not say otherwise gets; durations in seconds."""

    priority: int
    max_attempts: int
    timeout: float | None = Field(description="null: no limit")
    retry: RetryDefaults


class Kind(_Answer):
    """A type of jobs."""

    name: str
    description: str | None = Field(description="The handler's docstring")
    queue: str
    defaults: KindDefaults
    memory_limit: int | None = Field(
        description="Bytes that an attempt may add to its process; null: no limit"
    )
    paused: bool
    pause: Pause | None = Field(description="While it is paused")
    concurrency: int | None = Field(
        description="Attempts that run at a time, as the code has it; `GET /v1/limits/kind:…` says"
        " what holds; null: any number"
    )
    args_schema: dict[str, JsonValue] = Field(description="JSON Schema, 2020-12")
    result_schema: dict[str, JsonValue] | None = Field(description="null: any JSON value")


class Kinds(_Answer):
    items: list[Kind]


class Worker(_Answer):
    """One start of a worker process that is alive."""

    id: UUID
    host: str
    pid: int
    pool: str = Field(description="prefork or threads")
    queues: list[str]
    slots: int = Field(ge=1, description="Attempts at a time")
    running: int = Field(ge=0)
    started_at: datetime
    seen_at: datetime


class Workers(_Answer):
    items: list[Worker]


class File(_Answer):
    """A stored file."""

    id: UUID
    name: str = Field(description="As the uploader called it, without folders")
    size: int = Field(ge=0, description="Bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    media_type: str
    job_id: UUID | None = Field(description="The job that made it")
    created_at: datetime
    links: dict[Literal["self", "content"], str]


class KeyRate(_Answer):
    """How often a key may ask, at each API process."""

    per_second: float
    burst: int = Field(ge=1, description="Requests at once, after a while of silence")


class ApiKey(_Answer):
    """An API key, without its secret."""

    id: str
    name: str
    prefix: str = Field(description="How the key begins")
    scopes: list[Scope | str]
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute")
    kinds: list[str] | None = Field(description="Patterns of what it may run; null: all kinds")
    expires_at: datetime | None = Field(description="From then on it opens nothing; null: never")
    rate: KeyRate | None = Field(description="null: as often as it likes")


class ApiKeys(_Answer):
    items: list[ApiKey]


class MadeApiKey(ApiKey):
    key: str = Field(description="The key itself; it is shown this once")


class WsTicket(_Answer):
    ticket: str = Field(description="For the subprotocol `ticket.<ticket>`; it is shown this once")
    expires_at: datetime
    scopes: list[Scope]


class Alive(_Answer):
    """The process answers."""

    status: Literal["alive", "dead"]


class Readiness(_Answer):
    """Whether requests should be sent here."""

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="degraded: jobs are accepted, but the broker is away, and they start when it is"
        " back, or jobs are unaccounted for"
    )
    database: Literal["ok", "away"]
    broker: Literal["ok", "away"]
    draining: bool = Field(description="The process has been told to end")
    dispatchers: int | None = Field(description="That are alive; null: not known")
    workers: int | None = Field(description="That are alive; null: not known")
    jobs_unaccounted: int | None = Field(
        description="Accepted jobs that are missing, overdue, or not what their history says, as a"
        " dispatcher has found; more than 0: `make audit` names them; null: not known"
    )
    accounts_checked_at: datetime | None = Field(description="When that was last looked at")


class Flaw(_Answer):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="A JSON pointer (RFC 6901) as a URI fragment")
    detail: str
    in_: Literal["query", "header", "cookie"] | None = Field(
        default=None,
        alias="in",
        description="The part of the request that the pointer leads into; absent: the body",
    )


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(
        description="Leads to a description", json_schema_extra={"format": "uri-reference"}
    )
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str = Field(description="Stable, for programs")
    request_id: str
    errors: list[Flaw] | None = Field(default=None, description="With `validation-failed`")
