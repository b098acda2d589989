"""The tables. `table=True` validates nothing: only this package writes rows, by statements."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from jobs.states import JobState

MAX_CRASHES = 3  # the third one fails the job: one may be chance, three point at the job

STATE = Enum(JobState, name="job_state", values_callable=lambda states: [s.value for s in states])
_TIME = DateTime(timezone=True)
_JSON = JSONB(none_as_null=True)  # Python's None is SQL's NULL, never JSON's
_NOW = {"server_default": func.clock_timestamp()}
_ZERO = {"server_default": text("0")}
_FALSE = {"server_default": text("false")}
_EMPTY = {"server_default": text("'{}'")}
_PROJECT = {"server_default": "default"}
_THIS_XACT = {"server_default": text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")}
_NOBODY = {"server_default": text(f"'{UUID(int=0)}'")}
_UNIQUE = ("project_id", "unique_key")
UNIQUE_INDEXES = frozenset({"unique_while_active", "unique_until_started"})  #: decide on keys
_C_TEXT = Text(collation="C")  # sorts as its bytes do


def _partial(name: str, where: str, *columns: Any, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, postgresql_where=text(where))


STRAYS = timedelta(seconds=10)  # a submitter's clock that is wrong by more leads ids astray
# A second less: ids are of whole milliseconds, and what is between is found either way.
ASTRAY = (
    "abs(date_part('epoch', created_at - to_timestamp(0)) * 1000"
    " - CAST(CAST('x' || translate(left(CAST(id AS text), 13), '-', '') AS bit(48)) AS bigint))"
    " > 9000"
)


class Job(SQLModel, table=True):
    """One request to run a kind. Its newest event's `seq` is its version.

    What has to be true of a row is the law of the trigger `job_law` (migrations, 0013): CHECK
    constraints would be read anew from the catalogue by every claim and report, a fifth of it.
    """

    __table_args__ = (
        Index("job_by_project", "project_id", "id"),
        Index("job_by_kind", "project_id", "kind", "id"),
        Index(
            "job_by_label",
            "labels",
            postgresql_using="gin",
            postgresql_where=text("labels <> '{}'"),
            postgresql_ops={"labels": "jsonb_path_ops"},
        ),
        # Most jobs are in the default queue: whoever looks for these finds them among all.
        _partial("job_by_queue", "queue <> 'default'", "project_id", "queue", "id"),
        _partial("job_astray", ASTRAY, "project_id", "id"),
        _partial("job_live", "finished_at IS NULL", "project_id", "state", "id"),
        _partial(
            "job_unsuccessful", "state IN ('failed', 'cancelled')", "project_id", "state", "id"
        ),
        _partial(
            "job_unsuccessful_by_kind",
            "state IN ('failed', 'cancelled')",
            *("project_id", "kind", "state", "id"),
        ),
        _partial(
            "job_to_ring",
            "state = 'queued' AND rung_at IS NULL AND concurrency_key IS NULL",
            *("queue", "project_id", "kind", "priority", "queued_at", "id"),
        ),
        _partial(
            "job_keyed_to_ring",
            "state = 'queued' AND rung_at IS NULL AND concurrency_key IS NOT NULL",
            *("queue", "project_id", "kind", "priority", "concurrency_key", "queued_at", "id"),
        ),
        _partial(
            "job_holding_key",
            "concurrency_key IS NOT NULL AND (state = 'running' OR rung_at IS NOT NULL)",
            *("project_id", "concurrency_key"),
        ),
        _partial("job_rung", "state = 'queued' AND rung_at IS NOT NULL", "queue", "rung_at"),
        _partial("job_due", "state IN ('scheduled', 'retrying')", "run_at"),
        _partial("job_running", "state = 'running'", "queue"),
        _partial("job_to_expire", "expires_at IS NOT NULL AND finished_at IS NULL", "expires_at"),
        _partial("job_children", "parent_id IS NOT NULL", "parent_id"),
        _partial("job_by_unique_key", "unique_key IS NOT NULL AND finished_at IS NULL", *_UNIQUE),
        _partial(
            "unique_while_active",
            "unique_scope = 'active' AND finished_at IS NULL",
            *_UNIQUE,
            unique=True,
        ),
        # Of any scope. Once started a job never comes back, so that no move but a retry may fail.
        _partial(
            "unique_until_started",
            "unique_key IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued')"
            " AND attempt = 0",
            *_UNIQUE,
            unique=True,
        ),
        _partial("job_by_schedule", "schedule_id IS NOT NULL", "schedule_id", "id"),
        _partial(
            "job_live_of_schedule",
            "schedule_id IS NOT NULL AND finished_at IS NULL",
            "schedule_id",
        ),
        _partial("job_of_batch", "batch_id IS NOT NULL", "batch_id", "state", "id"),
        _partial("job_to_settle", "is_awaited AND finished_at IS NOT NULL", "finished_at"),
        _partial("job_let_go", "state = 'waiting' AND parents_left <= 0", "parents_left", "run_at"),
        {
            # Heartbeats find room on their own page, and dead rows go before they are many.
            "postgresql_with": {
                "fillfactor": 80,
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_analyze_scale_factor": 0.02,
            },
        },
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7, made by whoever submits
    project_id: str = Field(default="default", sa_column_kwargs=_PROJECT)
    kind: str
    state: JobState = Field(sa_type=STATE)  #: moved by `jobs.lifecycle` alone
    queue: str
    priority: int = Field(sa_type=SmallInteger)  #: 0 … 9, 9 first
    args: dict[str, Any] = Field(sa_type=_JSON)  #: as the handler gets them, secrets included
    redacted_args: dict[str, Any] | None = Field(sa_type=_JSON)  #: as reads show them; NULL: `args`
    result: Any = Field(default=None, sa_type=_JSON, nullable=True)  #: set with `succeeded`
    error: dict[str, Any] | None = Field(default=None, sa_type=_JSON)  #: of the newest failure
    progress: dict[str, Any] | None = Field(default=None, sa_type=_JSON)  #: of the newest attempt
    attempt: int = Field(
        default=0, sa_column_kwargs=_ZERO
    )  #: starts so far; never lowered: the fence
    failures: int = Field(default=0, sa_column_kwargs=_ZERO)  #: attempts that failed
    crashes: int = Field(default=0, sa_column_kwargs=_ZERO)  #: attempts whose process died
    max_attempts: int  #: this many failures end the job
    timeout_seconds: float | None  #: hard limit of one attempt
    labels: dict[str, str] = Field(sa_type=_JSON, sa_column_kwargs=_EMPTY)
    seq: int  #: of its newest event; each move takes the next one
    cancel_requested: bool = Field(default=False, sa_column_kwargs=_FALSE)
    cancel_reason: str | None = None  #: what was said with the request
    created_at: datetime = Field(sa_type=_TIME)
    run_at: datetime | None = Field(default=None, sa_type=_TIME)  #: not earlier
    expires_at: datetime | None = Field(default=None, sa_type=_TIME)  #: no first start after it
    queued_at: datetime | None = Field(default=None, sa_type=_TIME)  #: its place in the queue
    started_at: datetime | None = Field(default=None, sa_type=_TIME)  #: when the newest attempt did
    finished_at: datetime | None = Field(default=None, sa_type=_TIME)  #: when it became final
    rung_at: datetime | None = Field(default=None, sa_type=_TIME)  #: its doorbell was sent
    worker: UUID | None = None  #: who holds, or last held it
    lease_until: datetime | None = Field(default=None, sa_type=_TIME)  #: the holder's claim ends
    parent_id: UUID | None = None  #: the job whose handler submitted it
    rerun_of: UUID | None = None  #: the job that it repeats
    schedule_id: UUID | None = None  #: the schedule whose tick made it
    unique_key: str | None = None  #: that no other job may have …
    unique_scope: str | None = None  #: … while it is `active`, or `queued`: not started
    after: list[UUID] | None = Field(default=None, sa_type=ARRAY(Uuid))  #: jobs it waits for
    parents_left: int = Field(default=0, sa_column_kwargs=_ZERO)  #: to succeed; -1: one has not
    is_awaited: bool = Field(default=False, sa_column_kwargs=_FALSE)  #: by jobs to be told its end
    batch_id: UUID | None = None  #: the batch it belongs to
    concurrency_key: str | None = None  #: whose turns and limit it shares; NULL: everybody's
    concurrency_limit: int | None = None  #: what was asked for with it; the newest stands in `gate`


class JobEvent(SQLModel, table=True):
    """One line of a job's history, which every stream replays: `seq` is 1, 2, 3 … without gaps."""

    __tablename__ = "job_event"
    __table_args__ = (Index("job_event_by_xact", "xact_id"),)

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    seq: int = Field(primary_key=True)
    type: str
    at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    attempt: int
    data: dict[str, Any] = Field(sa_type=_JSON)
    #: The transaction that wrote it: by it the feed of all jobs finds what is new (jobs/feed.py).
    xact_id: int = Field(sa_type=BigInteger, sa_column_kwargs=_THIS_XACT)


class JobAttempt(SQLModel, table=True):
    """One ended attempt; written in the statement that ended it."""

    __tablename__ = "job_attempt"

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    attempt: int = Field(primary_key=True)
    worker: UUID
    started_at: datetime = Field(sa_type=_TIME)
    finished_at: datetime = Field(sa_type=_TIME)
    outcome: str  #: see jobs.attempts.Outcome
    cause: str | None = None
    error: dict[str, Any] | None = Field(default=None, sa_type=_JSON)
    max_rss_bytes: int | None = Field(default=None, sa_type=BigInteger)
    cpu_seconds: float | None = None
    #: Of the handler, by the process itself, but what it waited for a processor; NULL: unknown.
    run_seconds: float | None = None


class JobStep(SQLModel, table=True):
    """The stored result of a step, which later attempts get instead of running it again."""

    __tablename__ = "job_step"

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    attempt: int
    at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    result: Any = Field(sa_type=_JSON, nullable=True)


class IdempotencyKey(SQLModel, table=True):
    """What a key was used for; outlives its jobs, so that it can answer that they were deleted."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("idempotency_key_by_age", "created_at"),)

    project_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: bytes = Field(sa_type=LargeBinary)  #: SHA-256 of the canonical request
    job_ids: list[UUID] = Field(sa_type=ARRAY(Uuid))
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class IntakeTotal(SQLModel, table=True):
    """How many jobs a process has accepted and removed: the accounts' other side.

    Jobs are counted by the first group of their ids, so that a stretch of the table can be counted
    by itself. Rows of processes that count there no more are added up under the process id zero.
    """

    __tablename__ = "intake_total"

    bucket: str = Field(primary_key=True, sa_type=_C_TEXT)  #: 65.5 s of UUIDv7; '': of all time
    process_id: UUID = Field(primary_key=True)
    accepted: int = Field(sa_type=BigInteger, sa_column_kwargs=_ZERO)
    removed: int = Field(sa_type=BigInteger, sa_column_kwargs=_ZERO)


class AccountCheck(SQLModel, table=True):
    """How far a check of the accounts has come; dispatchers take turns at it."""

    __tablename__ = "account_check"

    name: str = Field(primary_key=True)
    position: UUID = Field(sa_column_kwargs=_NOBODY)  #: up to here this pass has seen all jobs
    checked_at: datetime | None = Field(default=None, sa_type=_TIME)  #: the newest look
    began_at: datetime | None = Field(default=None, sa_type=_TIME)  #: this pass, or the series
    ended_at: datetime | None = Field(default=None, sa_type=_TIME)  #: the newest pass that saw all


class AccountFinding(SQLModel, table=True):
    """Something that must not be; gone as soon as it is not found there any more."""

    __tablename__ = "account_finding"

    id: UUID = Field(primary_key=True)  #: the job, or the first that the ids counted may belong to
    reason: str = Field(primary_key=True)
    jobs: int = Field(sa_type=BigInteger)  #: so many are unaccounted for
    found_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class KnownKind(SQLModel, table=True):
    """A kind's defaults, for what accepts its jobs without Python: `lading_enqueue`."""

    __tablename__ = "kind"

    name: str = Field(primary_key=True)
    queue: str
    max_attempts: int
    timeout_seconds: float | None
    secret_args: list[str] = Field(sa_type=ARRAY(Text))  #: not shown in reads; `*`: none is
    concurrency: int | None = None  #: attempts at a time in a project, where no gate says otherwise


class Worker(SQLModel, table=True):
    """One start of a worker process; alive while `seen_at` is younger than a lease."""

    id: UUID = Field(primary_key=True)
    host: str
    pid: int
    pool: str  #: prefork or threads
    queues: list[str] = Field(sa_type=ARRAY(Text))
    kinds: list[str] = Field(sa_type=ARRAY(Text))
    slots: int  #: attempts at a time
    started_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    seen_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class Dispatcher(SQLModel, table=True):
    """One start of a dispatcher process."""

    id: UUID = Field(primary_key=True)
    host: str
    pid: int
    started_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    seen_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class File(SQLModel, table=True):
    """An uploaded or made file; its bytes lie in the files folder under its id."""

    id: UUID = Field(primary_key=True)
    project_id: str = Field(default="default", sa_column_kwargs=_PROJECT)
    name: str  #: as the uploader called it; never used as a path
    size: int = Field(sa_type=BigInteger)  #: bytes
    sha256: str
    media_type: str
    job_id: UUID | None = None  #: the job that made it
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class Project(SQLModel, table=True):
    """Whose jobs, files, keys and rules are whose. `default` belongs to who runs Lading."""

    id: str = Field(primary_key=True)  #: as in addresses
    name: str
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class ApiKey(SQLModel, table=True):
    """A key's hash; the key itself is shown once and kept nowhere."""

    __tablename__ = "api_key"
    __table_args__ = (CheckConstraint("(rate IS NULL) = (burst IS NULL)", "limited_or_not"),)

    id: str = Field(primary_key=True)  #: ten characters of the key, its public part
    project_id: str = Field(default="default", foreign_key="project.id", sa_column_kwargs=_PROJECT)
    name: str
    secret_hash: bytes = Field(sa_type=LargeBinary)  #: SHA-256: 178 random bits need no slow hash
    scopes: list[str] = Field(sa_type=ARRAY(Text))
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    last_used_at: datetime | None = Field(default=None, sa_type=_TIME)
    kinds: list[str] | None = Field(default=None, sa_type=ARRAY(Text))  #: patterns; NULL: all
    expires_at: datetime | None = Field(default=None, sa_type=_TIME)  #: good for nothing after it
    rate: float | None = None  #: requests a second; NULL: as many as come
    burst: int | None = None  #: requests at once, after a while of silence


class WsTicket(SQLModel, table=True):
    """What opens one WebSocket, once, within seconds; only its hash is kept."""

    __tablename__ = "ws_ticket"
    __table_args__ = (Index("ws_ticket_to_expire", "expires_at"),)

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)  #: SHA-256 of 256 random bits
    key_id: str = Field(foreign_key="api_key.id", ondelete="CASCADE")  #: the key that asked
    scopes: list[str] = Field(sa_type=ARRAY(Text))  #: not more than the key's
    expires_at: datetime = Field(sa_type=_TIME)


class BrokerEpoch(SQLModel, table=True):
    """Which life of the broker the doorbells were sent to; one row."""

    __tablename__ = "broker_epoch"
    __table_args__ = (CheckConstraint("single", "one_row"),)

    single: bool = Field(default=True, primary_key=True)
    epoch: UUID
    run_id: str
