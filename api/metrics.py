"""What Prometheus is told: counters of this process, and gauges out of the database."""

import asyncio
import time
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from api.database import Database
from jobs.errors import DatabaseUnavailable
from jobs.queues import count_unfinished
from jobs.states import FINAL, JobState
from jobs.views import JobView

FRESH = 10.0  # seconds; a scrape in between gets the same gauges, and costs no query
_UNFINISHED = [state for state in JobState if state not in FINAL]

_log = structlog.get_logger(__name__)


class Metrics:
    """One process's, in a registry of its own; names begin with `lading_`."""

    def __init__(self, database: Database, queues: Iterable[str]) -> None:
        """Gauges of these `queues` are there even while nothing is in them."""
        self.registry = CollectorRegistry()
        self._database, self._queues = database, sorted(queues)
        self._submitted = Counter(
            "lading_jobs_submitted",
            "Jobs accepted by this process",
            ["kind", "queue"],
            registry=self.registry,
        )
        self._in_state = Gauge(
            "lading_jobs_in_state",
            "Unfinished jobs",
            ["queue", "state"],
            registry=self.registry,
        )
        self._oldest = Gauge(
            "lading_job_oldest_wait_seconds",
            "How long the oldest job that could start has waited",
            ["queue"],
            registry=self.registry,
        )
        self._database_up = Gauge(
            "lading_database_up",
            "Whether the database answered when it was last asked",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self._read_at = -FRESH
        self._reading = asyncio.Lock()

    def count_submitted(self, jobs: Iterable[JobView]) -> None:
        """These jobs were accepted."""
        for job in jobs:
            self._submitted.labels(job.kind, job.queue).inc()

    async def exposition(self) -> bytes:
        """The text format. Never fails for want of the database: its gauges are missing then."""
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH:
                await self._read()
                self._read_at = time.monotonic()
        return generate_latest(self.registry)

    async def _read(self) -> None:
        self._in_state.clear()
        self._oldest.clear()
        try:
            found = await self._database.run(count_unfinished)
        except DatabaseUnavailable as error:
            _log.warning("metrics lack the database's gauges", cause=repr(error.__cause__))
            self._database_up.set(0)
            return
        self._database_up.set(1)
        for queue in {*self._queues, *(row.queue for row in found)}:
            for state in _UNFINISHED:
                self._in_state.labels(queue, state).set(0)
            self._oldest.labels(queue).set(0)
        for row in found:
            self._in_state.labels(row.queue, row.state).set(row.jobs)
            if row.oldest_wait_seconds is not None:
                self._oldest.labels(row.queue).set(row.oldest_wait_seconds)
