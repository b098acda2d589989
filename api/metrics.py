"""What Prometheus is told: counters of this process, and gauges out of the database."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from api.database import Database
from api.figures import FiguresCollector
from jobs.accounts import Standing, read_standing
from jobs.bus.publishing import Published
from jobs.errors import DatabaseUnavailable
from jobs.figures.counting import read_figures
from jobs.queues import Unfinished, count_unfinished
from jobs.states import FINAL, JobState
from jobs.views import JobView

FRESH = 10.0  # seconds; a scrape in between gets the same gauges, and costs no query
TRANSPORTS = ("sse", "ws")
_UNFINISHED = [state for state in JobState if state not in FINAL]

_log = structlog.get_logger(__name__)


class Metrics:
    """One process's, in a registry of its own; names begin with `lading_`."""

    def __init__(self, database: Database, queues: Iterable[str]) -> None:
        """Gauges of these `queues` are there even while nothing is in them."""
        self.registry = CollectorRegistry()
        self._database, self._queues = database, sorted(queues)
        self._counters: dict[tuple[str, str], Counter] = {}  # of the submitted, by kind and queue
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
        self._unaccounted = Gauge(
            "lading_jobs_unaccounted",
            "Accepted jobs that are missing, overdue, or not what their history says: 0",
            ["reason"],
            registry=self.registry,
        )
        self._checked = Gauge(
            "lading_accounts_age_seconds",
            "How long ago a check of the accounts has last seen everything that it looks at",
            ["check"],
            registry=self.registry,
        )
        self._streams = Gauge(
            "lading_open_streams",
            "Readers that follow a job",
            ["transport"],
            registry=self.registry,
        )
        self._database_up = Gauge(
            "lading_database_up",
            "Whether the database answered when it was last asked",
            registry=self.registry,
        )
        self._count_events()
        ProcessCollector(registry=self.registry)
        self._figures = FiguresCollector()
        self.registry.register(self._figures)
        for transport in TRANSPORTS:
            self._streams.labels(transport)
        self._read_at = -FRESH
        self._reading = asyncio.Lock()

    def _count_events(self) -> None:
        self._published = Counter(
            "lading_events_published",
            "Events accepted by this process: new ones, and those that it had already",
            ["is_new"],
            registry=self.registry,
        )
        self._misfits = Counter(
            "lading_trigger_failures",
            "Triggers that made no job of an event, for its args did not fit",
            registry=self.registry,
        )

    def count_submitted(self, jobs: Iterable[JobView]) -> None:
        """These jobs were accepted."""
        for job in jobs:
            what = job.kind, job.queue
            counter = self._counters.get(what)
            if counter is None:  # the search for it costs four times what the counting does
                counter = self._counters[what] = self._submitted.labels(*what)
            counter.inc()

    def count_published(self, published: Iterable[Published]) -> None:
        """These events were accepted, now or before."""
        for each in published:
            self._published.labels(str(each.is_new).lower()).inc()
            if each.is_new:
                self.count_submitted(each.jobs)
                self._misfits.inc(sum(firing.job_id is None for firing in each.event.firings))

    def streaming(self, transport: str) -> AbstractContextManager[object]:
        """Inside, one more reader follows a job, by `ws` or `sse`."""
        return self._streams.labels(transport).track_inprogress()

    async def exposition(self) -> bytes:
        """The text format. Never fails for want of the database: its gauges are missing then."""
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH:
                await self._read()
                self._read_at = time.monotonic()
        return generate_latest(self.registry)

    async def _read(self) -> None:
        for gauge in (self._in_state, self._oldest, self._unaccounted, self._checked):
            gauge.clear()
        try:
            unfinished = await self._database.run(count_unfinished)
            standing = await self._database.run(read_standing)
            self._figures.figures = await self._database.run(read_figures)
        except DatabaseUnavailable as error:
            _log.warning("metrics lack the database's gauges", cause=repr(error.__cause__))
            self._database_up.set(0)
            self._figures.figures = ()
            return
        self._database_up.set(1)
        self._show_unfinished(unfinished)
        self._show_accounts(standing)

    def _show_unfinished(self, found: list[Unfinished]) -> None:
        for queue in {*self._queues, *(row.queue for row in found)}:
            for state in _UNFINISHED:
                self._in_state.labels(queue, state).set(0)
            self._oldest.labels(queue).set(0)
        for row in found:
            self._in_state.labels(row.queue, row.state).set(row.jobs)
            if row.oldest_wait_seconds is not None:
                self._oldest.labels(row.queue).set(row.oldest_wait_seconds)

    def _show_accounts(self, standing: Standing) -> None:
        """Nothing, as long as nobody has looked: 0 would be a promise."""
        for check, seconds in standing.ages.items():
            self._checked.labels(check).set(seconds)
        if standing.checked_at is not None:
            for reason, jobs in standing.unaccounted.items():
                self._unaccounted.labels(reason).set(jobs)
