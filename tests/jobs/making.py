"""Jobs put into a state by hand, for tests of what may happen to them there."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, func, insert, select
from sqlmodel import col

from jobs.ids import uuid7
from jobs.models import Job, JobEvent
from jobs.states import FINAL, JobState

WORKER = uuid4()
LEASE = timedelta(seconds=30)
PROJECT = "default"


def make_job(
    connection: Connection, state: JobState = JobState.QUEUED, attempt: int = 1, **columns: Any
) -> UUID:
    """A job with one event behind it, put into `state`."""
    now = func.clock_timestamp()
    facts: dict[str, Any] = {
        "id": uuid7(),
        "kind": "test.echo",
        "queue": "default",
        "priority": 5,
        "args": {},
        "max_attempts": 5,
        "created_at": now,
    }
    match state:
        case JobState.QUEUED:
            facts |= {"queued_at": now}
        case JobState.RUNNING:
            facts |= {"worker": WORKER, "started_at": now, "lease_until": now + LEASE}
            facts |= {"queued_at": now}
        case JobState.SCHEDULED | JobState.RETRYING:
            facts |= {"run_at": now + timedelta(hours=1)}
        case JobState.FAILED:
            facts |= {"error": {"cause": "fail"}}
    if state in FINAL:
        facts |= {"finished_at": now}
    row = {**facts, "state": state, "attempt": attempt, "seq": 1, **columns}
    job_id: UUID = connection.execute(insert(Job).values(**row).returning(col(Job.id))).scalar_one()
    created = {"job_id": job_id, "seq": 1, "type": "created", "attempt": 0, "data": {}}
    connection.execute(insert(JobEvent).values(**created))
    return job_id


def read_job(connection: Connection, job_id: UUID) -> Row[Any]:
    return connection.execute(select(Job.__table__).where(col(Job.id) == job_id)).one()  # type: ignore[attr-defined]


def read_events(connection: Connection, job_id: UUID) -> list[Row[Any]]:
    table = JobEvent.__table__  # type: ignore[attr-defined]
    statement = select(table).where(col(JobEvent.job_id) == job_id).order_by(col(JobEvent.seq))
    return [*connection.execute(statement)]


def read(connection: Connection, job_id: UUID) -> tuple[Row[Any], list[Row[Any]]]:
    """The whole of the job: its row and its history."""
    return read_job(connection, job_id), read_events(connection, job_id)
