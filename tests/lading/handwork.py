"""What a worker does to a job, by hand: each move is committed, and streams hear of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from jobs import lifecycle
from jobs.attempts import Cause, Error
from jobs.hints import Hints
from lading import Client
from tests.eventually import eventually
from tests.jobs.making import LEASE, WORKER

Background = Callable[[Callable[[], None]], None]
BROKEN = Error(Cause.EXCEPTION, "RuntimeError", "no luck", "Traceback …")


class Handwork:
    """One worker that does only what it is told."""

    def __init__(self, engine: Engine, hints: Hints) -> None:
        self._engine, self._hints = engine, hints

    def start(self, job_id: UUID, attempt: int = 1) -> None:
        with self._engine.begin() as connection:
            claim = lifecycle.start(connection, job_id, attempt=attempt, worker=WORKER, lease=LEASE)
        self._hints.tell([claim])

    def progress(self, job_id: UUID, fraction: float, message: str | None = None) -> None:
        with self._engine.begin() as connection:
            moved = lifecycle.record_progress(
                connection, job_id, attempt=1, fraction=fraction, message=message
            )
        self._hints.tell([moved])

    def log(self, job_id: UUID, message: str, **fields: Any) -> None:
        line = {"at": "2026-01-02T03:04:05Z", "level": "info", "message": message, "fields": fields}
        with self._engine.begin() as connection:
            moved = lifecycle.record_log(connection, job_id, attempt=1, lines=[line])
        self._hints.tell([moved])

    def succeed(self, job_id: UUID, result: Any = None, attempt: int = 1) -> None:
        with self._engine.begin() as connection:
            moved = lifecycle.succeed(connection, job_id, attempt=attempt, result=result)
        self._hints.tell([moved])

    def fail(self, job_id: UUID, attempt: int = 1) -> None:
        with self._engine.begin() as connection:
            moved = lifecycle.fail(connection, job_id, attempt=attempt, error=BROKEN)
        self._hints.tell([moved])

    def retry_later(self, job_id: UUID, delay: timedelta = timedelta(hours=1)) -> None:
        with self._engine.begin() as connection:
            moved = lifecycle.retry_later(connection, job_id, attempt=1, error=BROKEN, delay=delay)
        self._hints.tell([moved])

    def run(self, job_id: UUID, result: Any = None, steps: int = 0) -> None:
        """From queued to succeeded, with so many events of progress between."""
        self.start(job_id)
        for step in range(steps):
            self.progress(job_id, (step + 1) / steps)
        self.succeed(job_id, result)

    def break_(self, job_id: UUID) -> None:
        """From queued to failed."""
        self.start(job_id)
        self.fail(job_id)

    def log_and_run(self, job_id: UUID, message: str) -> None:
        self.start(job_id)
        self.log(job_id, message)
        self.succeed(job_id)

    def when_there(self, client: Client, label: str, move: Callable[[UUID], None]) -> None:
        """The job with this label (`name=value`) is moved, as soon as there is one."""
        name, _, value = label.partition("=")
        job = eventually(lambda: next(client.list(labels={name: value}), None))
        assert job is not None
        move(job.id)
