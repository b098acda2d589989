"""A client, a dispatcher and a reader in one, for tests that watch single attempts."""

import math
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Engine
from sqlmodel import col

from jobs import lifecycle
from jobs.broker import Bell, Broker
from jobs.enqueue import Intake, enqueue
from jobs.lifecycle import cancel
from jobs.models import Job, JobAttempt, JobEvent
from jobs.registry import Registry
from jobs.states import FINAL, JobState
from jobs.submissions import NewJob, Submission, check
from tests.eventually import eventually

PROJECT = "default"
RING_AGAIN_AFTER = 10.0  # seconds


class Platform:
    """Bells are rung by hand, and again where one was lost: Celery's pool may lose them."""

    def __init__(self, engine: Engine, broker: Broker, registry: Registry) -> None:
        self.engine, self.broker, self.registry = engine, broker, registry
        self._rung: dict[tuple[UUID, int], float] = {}  #: when, by the monotonic clock

    def submit(self, kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> NewJob:
        """A new job; no bell is rung."""
        job = check(self.registry, Submission(kind=kind, args=args or {}, **options))
        with self.engine.begin() as connection:
            enqueue(connection, [Intake(PROJECT, [job])], process_id=uuid4())
        return job

    def ring(self, job: NewJob, attempt: int = 1) -> None:
        """Somebody may make that attempt."""
        self._rung[job.id, attempt] = time.monotonic()
        bell = Bell(job.queue, job.kind, ((job.id, attempt),), job.priority)
        self.broker.ring([bell])

    def start(self, kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> NewJob:
        """A new job whose first attempt has begun; it may have ended, if it is a quick one."""
        job = self.submit(kind, args, **options)
        self.ring(job)
        eventually(lambda: self._when_begun(job), within=40)
        return job

    def run(self, kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> sa.Row[Any]:
        """A new job, attempted as often as it may be. Its row at the end."""
        return self.finish(self.submit(kind, args, **options))

    def finish(self, job: NewJob, within: float = 40) -> sa.Row[Any]:
        """The job's row once it is final; until then bells are rung as they are due."""
        return eventually(lambda: self._advance(job), within=within)

    def ended(self, job: NewJob, within: float = 40) -> sa.Row[Any]:
        """The job's row once an attempt has been made and none runs any more."""
        row = eventually(lambda: self._when_ended(job), within=within)
        assert row is not None
        return row

    def row(self, job: NewJob) -> sa.Row[Any]:
        with self.engine.connect() as connection:
            return connection.execute(sa.select(Job.__table__).where(col(Job.id) == job.id)).one()  # type: ignore[attr-defined]

    def events(self, job: NewJob) -> list[tuple[str, dict[str, Any]]]:
        """Types and data in order; `seq` has no gap."""
        statement = sa.select(col(JobEvent.seq), col(JobEvent.type), col(JobEvent.data))
        statement = statement.where(col(JobEvent.job_id) == job.id).order_by(col(JobEvent.seq))
        with self.engine.connect() as connection:
            rows = [*connection.execute(statement)]
        assert [row.seq for row in rows] == [*range(1, len(rows) + 1)]
        return [(row.type, row.data) for row in rows]

    def types(self, job: NewJob) -> list[str]:
        return [type_ for type_, _ in self.events(job)]

    def attempts(self, job: NewJob) -> list[tuple[int, str, str | None]]:
        """Number, outcome and cause of the ended attempts."""
        shown = (col(JobAttempt.attempt), col(JobAttempt.outcome), col(JobAttempt.cause))
        statement = sa.select(*shown).where(col(JobAttempt.job_id) == job.id)
        with self.engine.connect() as connection:
            rows = connection.execute(statement.order_by(shown[0]))
            return [(row[0], row[1], row[2]) for row in rows]

    def cancel(self, job: NewJob, reason: str = "not wanted") -> None:
        with self.engine.begin() as connection:
            cancel(connection, PROJECT, job.id, reason)

    def execute(self, statement: str, **binds: Any) -> None:
        """Something that no part of the platform would do."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), binds)

    def _advance(self, job: NewJob) -> sa.Row[Any]:
        row = self.row(job)
        if row.state in FINAL:
            return row
        if row.state is JobState.RETRYING:
            with self.engine.begin() as connection:
                lifecycle.run_now(connection, PROJECT, job.id)
        elif row.state is JobState.QUEUED:
            self._ring_when_due(job, row.attempt + 1, -math.inf)
        raise AssertionError(f"attempt {row.attempt} of {job.kind} is {row.state}")

    def _when_begun(self, job: NewJob) -> sa.Row[Any] | None:
        """Its first attempt was rung for by hand, if at all."""
        row = self.row(job)
        if not row.attempt:
            self._ring_when_due(job, 1, math.inf)
            return None
        return row

    def _when_ended(self, job: NewJob) -> sa.Row[Any] | None:
        row = self._when_begun(job)
        return None if row is None or row.state is JobState.RUNNING else row

    def _ring_when_due(self, job: NewJob, attempt: int, otherwise: float) -> None:
        """`otherwise`: when that attempt counts as rung for, if nobody did so by `ring`."""
        rung_at = self._rung.get((job.id, attempt), otherwise)
        if time.monotonic() > rung_at + RING_AGAIN_AFTER:
            self.ring(job, attempt)
