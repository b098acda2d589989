"""Who follows a job gets its events, all and in order; who waits for one is woken.

One per API process. The log in PostgreSQL is the truth; hints from Redis make it quick, usually a
few milliseconds after the commit. Where a hint is missing the log is read: at once for a gap, and
every SWEEP_EVERY for all watched jobs, so that without Redis a stream is late and never wrong. It
holds no connection while nothing happens, and no queue per reader: a job's newest events are kept
once (api/feed.py), and a reader that is further behind reads the log.

Everything here belongs to the event loop's thread.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.background import Background
from api.draining import Draining
from api.feed import Feed
from api.follower import Follower, Waiter, Watch
from api.recorded import Page, hinted_job, page_of, read_hint
from api.subscription import Subscription
from jobs.errors import DatabaseUnavailable
from jobs.events import News, key_of, read_history, read_news
from jobs.hints import PUBLISHED

SWEEP_EVERY = 1.5  # seconds; streams promise to be at most 2 s late when hints are lost
GATHER = 0.02  # seconds in which a gap may close by itself, or share its query with others
PAGE = 256  # events of a history that are read, and held, at a time
MOST_NEWS = 1000  # events a query for all jobs: a few megabytes
DATABASE_PAUSE = 0.5  # seconds before a database that is away is asked again
READERS_AT_ONCE = 4  # histories read at a time, so that requests find free connections

NOTHING = News({}, set(), is_whole=True)

P = ParamSpec("P")
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Reads(Protocol):
    """What the hub needs of api.database.Database."""

    async def run(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...


class Topic(Enum):
    """What hints are about."""

    JOBS = "jobs"
    BUS = "bus"  #: events that were published


class Hub:
    """An async context manager, for as long as the process serves."""

    def __init__(self, database: Reads, broker_url: str, draining: Draining) -> None:
        self._database, self._draining = database, draining
        self._feeds: dict[bytes, Feed] = {}
        self._hearers: dict[Topic, set[Callable[[], None]]] = {each: set() for each in Topic}
        self._of_jobs = self._hearers[Topic.JOBS]
        self._due = asyncio.Event()  # the log is to be read now
        self._sweep_due = False  # for all jobs
        self._reading = asyncio.Semaphore(READERS_AT_ONCE)
        self._subscription = Subscription(
            broker_url, on_open=self._hints_begin, on_message=self._hear
        )
        self._background = Background()

    async def __aenter__(self) -> Self:
        self._draining.call(self._wake_all)
        self._background.begin("hub-hints", self._subscription.run())
        self._background.begin("hub-log", self._keep_up())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._background.end()

    def follow(self, project_id: str, job_id: UUID, after: int, *, stays: bool = False) -> Follower:
        """The job's events after that `seq`, first those there are and then as they come.

        To be entered. It is over with the final event, unless it `stays` for what a retry would
        bring. JobNotFound and DatabaseUnavailable before anything else.
        """
        return Follower(
            self,
            self._feed(job_id),
            self._draining,
            project_id=project_id,
            after=after,
            stays=stays,
        )

    def watch(self, job_id: UUID) -> Watch:
        """To be woken when something happens to the job. Enter it before the job is read."""
        return Watch(self, self._feed(job_id), self._draining)

    def join(self, waiter: Waiter) -> None:
        """From now on the waiter's feed wakes it."""
        waiter.feed = self._feeds.setdefault(waiter.feed.key, waiter.feed)
        waiter.feed.waiting.add(waiter)
        self._subscription.want()

    def leave(self, waiter: Waiter) -> None:
        """It is not woken any more, if it was."""
        feed = waiter.feed
        feed.waiting.discard(waiter)
        if not feed.waiting and self._feeds.get(feed.key) is feed:
            del self._feeds[feed.key]
        self._rest_if_unwatched()

    @contextmanager
    def hints(self, heard: Callable[[], None], topic: Topic) -> Iterator[None]:
        """Inside, `heard` is called when something may have happened to what the topic names."""
        hearers = self._hearers[topic]
        hearers.add(heard)
        self._subscription.want()
        try:
            yield
        finally:
            hearers.discard(heard)
            self._rest_if_unwatched()

    def _feed(self, job_id: UUID) -> Feed:
        return self._feeds.get(key_of(job_id)) or Feed(job_id)

    def _rest_if_unwatched(self) -> None:
        if not self._feeds and not any(self._hearers.values()):
            self._subscription.unwant()

    async def read_page(self, project_id: str, feed: Feed, after: int) -> Page:
        """What the log has after that `seq`. JobNotFound, DatabaseUnavailable."""
        async with self._reading:
            heard = feed.heard
            run = self._database.run
            page = page_of(await run(read_history, project_id, feed.job_id, after, PAGE))
        if page.is_last:
            feed.learn(page, heard)
            if feed.is_behind:
                self._due.set()
        return page

    def _hear(self, message: bytes) -> None:
        feed = self._feeds.get(hinted_job(message))
        if feed is None and message == PUBLISHED:
            self._call(Topic.BUS)
            return
        for heard in self._of_jobs:
            heard()
        if feed is None or feed.pass_on(message):
            return
        if (hint := read_hint(message)) is not None and feed.hear(hint):
            self._due.set()

    def _hints_begin(self) -> None:
        """Hints may have been lost before, so that all jobs are looked at."""
        self._sweep_due = True
        self._due.set()
        for topic in Topic:
            self._call(topic)

    def _call(self, topic: Topic) -> None:
        for heard in self._hearers[topic]:
            heard()

    def _wake_all(self) -> None:
        for feed in [*self._feeds.values()]:
            feed.wake()

    async def _keep_up(self) -> None:
        """Until it is cancelled, the feeds do not stay behind the log."""
        loop = asyncio.get_running_loop()
        swept_at, is_away = loop.time(), False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(swept_at + SWEEP_EVERY):
                    await self._due.wait()
                    await asyncio.sleep(GATHER)
            self._due.clear()
            sweeps = self._sweep_due or loop.time() >= swept_at + SWEEP_EVERY
            if sweeps:
                self._sweep_due, swept_at = False, loop.time()
            feeds = [feed for feed in self._feeds.values() if sweeps or feed.is_behind]
            try:
                await self._catch_up(feeds)
                is_away = False
            except (DatabaseUnavailable, DBAPIError) as error:
                if not is_away:
                    cause = repr(error.__cause__ or error)
                    _log.warning("streams wait for the database", cause=cause)
                is_away = True
                self._hints_begin()
                await asyncio.sleep(DATABASE_PAUSE)

    async def _catch_up(self, feeds: Sequence[Feed]) -> None:
        """The feeds know all that was committed before."""
        while feeds:
            unknown = [feed for feed in feeds if feed.newest is None]
            asked = {feed.key: feed for feed in feeds if not feed.is_gone}
            afters = {key: feed.newest for key, feed in asked.items() if feed.newest is not None}
            # Thousands have nothing new, and know it: only who has heard of something is told.
            behind = {key: asked[key].heard for key in afters if asked[key].is_behind}
            news = await self._database.run(read_news, afters, MOST_NEWS) if afters else NOTHING
            for feed in unknown:
                feed.wake()  # a long poll that has not said what it knows
            for key, history in news.histories.items():
                asked[key].learn(page_of(history), behind.get(key, afters[key]))
            for key in news.gone:
                asked[key].is_gone = True
                asked[key].wake()
            if news.is_whole:
                for key in behind.keys() - news.histories.keys() - news.gone:
                    asked[key].confirm(behind[key])
                feeds = [asked[key] for key, each in news.histories.items() if each.is_cut]
