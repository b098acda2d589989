"""What a worker would do to a job, without one."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from jobs import lifecycle
from jobs.attempts import Cause, Error
from tests.jobs.making import LEASE, WORKER

BROKEN = Error(Cause.EXCEPTION, "RuntimeError", "no luck", "Traceback …")


def start(engine: Engine, job_id: str, attempt: int = 1) -> None:
    with engine.begin() as connection:
        lifecycle.start(connection, UUID(job_id), attempt=attempt, worker=WORKER, lease=LEASE)


def succeed(engine: Engine, job_id: str, result: Any = None, attempt: int = 1) -> None:
    """The job has run and succeeded."""
    start(engine, job_id, attempt)
    with engine.begin() as connection:
        lifecycle.succeed(connection, UUID(job_id), attempt=attempt, result=result)


def fail(engine: Engine, job_id: str, attempt: int = 1, *, runs: bool = False) -> None:
    """The job has run, or `runs` already, and failed for good."""
    if not runs:
        start(engine, job_id, attempt)
    with engine.begin() as connection:
        lifecycle.fail(connection, UUID(job_id), attempt=attempt, error=BROKEN)


def retry_later(engine: Engine, job_id: str, attempt: int = 1) -> None:
    """The job has failed once and waits for an hour."""
    start(engine, job_id, attempt)
    with engine.begin() as connection:
        lifecycle.retry_later(
            connection, UUID(job_id), attempt=attempt, error=BROKEN, delay=timedelta(hours=1)
        )


def log(engine: Engine, job_id: str, *messages: str, attempt: int = 1) -> None:
    """The running job has written these lines, in one event."""
    lines = [
        {"at": "2026-01-02T03:04:05Z", "level": "info", "message": text, "fields": {"n": number}}
        for number, text in enumerate(messages)
    ]
    with engine.begin() as connection:
        lifecycle.record_log(connection, UUID(job_id), attempt=attempt, lines=lines)
