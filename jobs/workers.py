"""Workers as the database knows them: that they live, and which attempts they hold.

A row is one start of one process. Leases are renewed by naming attempts, never by worker alone: an
attempt that nobody names runs out by itself.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import SQLModel, col

from jobs.attempts import WORKER_LOST, Outcome
from jobs.direct import Direct
from jobs.models import Job, JobAttempt, Worker
from jobs.states import JobState

LOST = frozenset({Outcome.CRASHED, Outcome.INTERRUPTED, Outcome.LEASE_LOST})  #: ends from outside


class WorkerProcess(NamedTuple):
    """What a worker says of itself."""

    id: UUID  #: of this start of the process
    host: str
    pid: int
    pool: str  #: prefork or threads
    queues: list[str]
    kinds: list[str]
    slots: int  #: attempts at a time


class WorkerView(NamedTuple):
    """A live worker as readers see it."""

    id: UUID
    host: str
    pid: int
    pool: str
    queues: list[str]
    slots: int
    running: int
    started_at: datetime
    seen_at: datetime


class Held(NamedTuple):
    """An attempt that a process believes to run, and what the database says of it."""

    job_id: UUID
    attempt: int
    is_running: bool  #: it holds its job
    outcome: str | None  #: see jobs.attempts.Outcome, where it has ended
    cancel_requested: bool

    @property
    def is_lost(self) -> bool:
        """Whether somebody else ended it."""
        return self.outcome in LOST


class Remains(NamedTuple):
    """What must be known of an attempt whose process is gone, to report its end."""

    kind: str
    failures: int
    max_attempts: int


def beat(connection: Connection, worker: WorkerProcess) -> None:
    """The worker's row exists and says that it lives now."""
    _BEAT.first(connection, worker._asdict())


def beat_of(process: type[SQLModel]) -> Direct:
    """A row of that table exists, and says that its process lives now."""
    table: sa.Table = process.__table__  # type: ignore[attr-defined]
    said = [column for column in table.columns if column.server_default is None]
    names = [column.name for column in said]
    statement = f"""
INSERT INTO {table.name} ({", ".join(names)}) VALUES ({", ".join(f":{name}" for name in names)})
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
RETURNING true
"""  # noqa: S608 - names of ours
    binds = [sa.bindparam(column.name, type_=column.type) for column in said]
    written = sa.text(statement).bindparams(*binds)
    return Direct(f"lading_{table.name}_beat", written.columns(is_alive=sa.Boolean))


def sign_off(connection: Connection, worker_id: UUID) -> None:
    """The worker's row is gone: it has stopped in good order."""
    connection.execute(sa.delete(Worker).where(col(Worker.id) == worker_id))


def renew(
    connection: Connection,
    worker_id: UUID,
    attempts: Sequence[tuple[UUID, int]],
    lease: timedelta,
) -> list[Held]:
    """Those of the attempts that the worker really holds keep their jobs for another `lease`.

    The answer has one line for each that is named, in no order. A row that somebody has locked is
    being written just now, and keeps the lease it has: nothing waits here.
    """
    binds = {**_named(attempts), "holder": worker_id, "lease": lease}
    return [Held._make(row) for row in connection.execute(_RENEW, binds)]


def look(connection: Connection, attempts: Sequence[tuple[UUID, int]]) -> list[Held]:
    """How these attempts stand, one line for each, in no order."""
    return [Held._make(row) for row in connection.execute(_LOOK, _named(attempts))]


def find_remains(
    connection: Connection, worker_id: UUID, job_id: UUID, attempt: int
) -> Remains | None:
    """What the worker's attempt leaves behind, while it still holds its job."""
    row = connection.execute(
        sa.select(col(Job.kind), col(Job.failures), col(Job.max_attempts)).where(
            col(Job.id) == job_id,
            col(Job.attempt) == attempt,
            col(Job.worker) == worker_id,
            col(Job.state) == JobState.RUNNING,
        )
    ).one_or_none()
    return None if row is None else Remains._make(row)


def mark_lost(connection: Connection, worker_id: UUID, job_id: UUID, attempt: int) -> bool:
    """The worker's attempt went on after its lease had run out: its row says `lease_lost`.

    Whether it does so now: an attempt that ended in any other way is left as it is. The row keeps
    the error of the rescue, and nothing else changes: what has followed from the rescue stands.
    """
    statement = (
        sa.update(JobAttempt)
        .where(
            col(JobAttempt.job_id) == job_id,
            col(JobAttempt.attempt) == attempt,
            col(JobAttempt.worker) == worker_id,
            col(JobAttempt.outcome) == Outcome.CRASHED,
            col(JobAttempt.error)["type"].astext == WORKER_LOST,
        )
        .values(outcome=Outcome.LEASE_LOST)
    )
    return connection.execute(statement).rowcount > 0


def list_workers(connection: Connection, lease: timedelta) -> list[WorkerView]:
    """The workers seen within one lease, the longest-running first."""
    running = (
        sa.select(sa.func.count())
        .where(col(Job.state) == JobState.RUNNING, col(Job.worker) == col(Worker.id))
        .scalar_subquery()
        .label("running")
    )
    shown = [
        running if name == "running" else col(getattr(Worker, name)) for name in WorkerView._fields
    ]
    statement = (
        sa.select(*shown)
        .where(col(Worker.seen_at) > sa.func.clock_timestamp() - lease)
        .order_by(col(Worker.started_at), col(Worker.id))
    )
    return [WorkerView._make(row) for row in connection.execute(statement)]


def _named(attempts: Sequence[tuple[UUID, int]]) -> dict[str, Any]:
    return {
        "ids": [job_id for job_id, _ in attempts],
        "attempts": [attempt for _, attempt in attempts],
    }


# Rows are found by an array of keys and the state is compared by its text: whatever the tables were
# when the plan was made, it neither walks a backlog nor reads a partial index of it.
_NAMED = """
WITH named AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[])) AS named (id, attempt)
),
job_now AS MATERIALIZED (
    SELECT id, attempt, CAST(state AS text) AS state, cancel_requested
    FROM job WHERE id = ANY(CAST(:ids AS uuid[]))
),
ended AS MATERIALIZED (
    SELECT job_id AS id, attempt, outcome FROM job_attempt WHERE job_id = ANY(CAST(:ids AS uuid[]))
)
"""
_STAND = """
SELECT named.id, named.attempt,
       coalesce(job_now.state = 'running' AND job_now.attempt = named.attempt, false),
       ended.outcome,
       coalesce(job_now.cancel_requested AND job_now.attempt = named.attempt, false)
FROM named
LEFT JOIN job_now ON job_now.id = named.id
LEFT JOIN ended ON ended.id = named.id AND ended.attempt = named.attempt
"""
_LOOK = sa.text(_NAMED + _STAND)
_BEAT = beat_of(Worker)
_RENEW = sa.text(f"""{_NAMED},
held AS MATERIALIZED (
    SELECT id FROM job
    WHERE id = ANY(CAST(:ids AS uuid[])) AND CAST(state AS text) = 'running' AND worker = :holder
          AND (id, attempt) IN (SELECT id, attempt FROM named)
    FOR NO KEY UPDATE SKIP LOCKED
),
renewed AS (
    UPDATE job SET lease_until = clock_timestamp() + :lease
    WHERE id = ANY(ARRAY(SELECT id FROM held))
)
{_STAND}""")  # noqa: S608 - every value is bound
