"""Workers that seem to live, and jobs that wait for them: what a dispatcher looks at."""

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, func, insert, select, text
from sqlmodel import col

from jobs.models import Job, Worker
from jobs.states import JobState
from tests.jobs.making import make_job

AT_ONCE = 5_000  # jobs of one statement


def add_worker(connection: Connection, **columns: Any) -> UUID:
    """A worker that was seen just now, of two slots for `test.echo` in `default`."""
    row = {
        "id": uuid4(),
        "host": "here",
        "pid": 1,
        "pool": "prefork",
        "queues": ["default"],
        "kinds": ["test.echo"],
        "slots": 2,
    }
    statement = insert(Worker).values(**(row | columns)).returning(col(Worker.id))
    added: UUID = connection.execute(statement).scalar_one()
    return added


def add_job(connection: Connection, **columns: Any) -> UUID:
    """A queued job that has not started yet."""
    return make_job(connection, JobState.QUEUED, **{"attempt": 0, **columns})


def count_rung(connection: Connection, queue: str = "default") -> int:
    """The queue's marks."""
    is_rung = col(Job.rung_at).is_not(None), col(Job.queue) == queue
    return connection.execute(select(func.count()).where(*is_rung)).scalar_one()


def list_rung(connection: Connection, queue: str = "default") -> list[UUID]:
    """The jobs with marks."""
    is_rung = col(Job.rung_at).is_not(None), col(Job.queue) == queue
    return [*connection.execute(select(col(Job.id)).where(*is_rung)).scalars()]


def add_jobs(connection: Connection, queue: str, number: int) -> None:
    """Quicker than one by one; without events. A statement makes some thousand, in its time."""
    statement = text("""
    INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at,
                     queued_at)
    SELECT gen_random_uuid(), 'test.echo', 'queued', :queue, 5, '{}', 1, 1, clock_timestamp(),
           clock_timestamp()
    FROM generate_series(1, :number)
    """)
    for made in range(0, number, AT_ONCE):
        connection.execute(statement, {"number": min(AT_ONCE, number - made), "queue": queue})
