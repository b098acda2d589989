"""The newest of a feed, read once for everybody in this process who follows it.

There are two feeds: what happens to all jobs (jobs/feed.py), and the events of the bus
(jobs/bus/stream.py). Woken by hints, and every SWEEP_EVERY without them, a tail reads what has
ended since its last look and keeps the newest of it. A reader that is further behind, or resumes
from an old position, reads the log by itself until it has caught up; for none is anything queued.
While nobody follows, nothing is read.

A reader joins like this: from now on looks include its project; it notes which batch comes next,
and reads the log up to a moment after that. Whatever ends later is in that batch or in a later one;
what it has already is dropped.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Generic, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.background import Background
from api.draining import Draining
from api.hub import DATABASE_PAUSE, SWEEP_EVERY, Hub, Reads, Topic
from api.recorded import Recorded
from jobs.errors import DatabaseUnavailable
from jobs.feed import Place, Position, Snapshot, read_position

GATHER = 0.03  # seconds in which events share a query
PAGE = 256  # events that are read, and held, at a time
KEPT_EVENTS = 2048  # a reader that is further behind reads the log by itself
KEPT_CHARACTERS = 4 * 1024 * 1024  # of JSON: log lines may be long

_log = structlog.get_logger(__name__)


class Fed(Protocol):
    """An event, as the domain reads it out of a feed."""

    @property
    def key(self) -> tuple[UUID, int]: ...
    @property
    def xact_id(self) -> int: ...


E = TypeVar("E", bound=Fed)
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)


class Wanted(Protocol[A_contra]):
    """Which events a reader wants."""

    @property
    def project_id(self) -> str: ...
    def matches(self, event: A_contra, /) -> bool: ...


class Page(Protocol[B_co]):
    """Some events of a feed, and where their reader stands after them."""

    @property
    def events(self) -> Sequence[B_co]: ...
    @property
    def place(self) -> Place: ...
    @property
    def is_last(self) -> bool: ...


class Source(NamedTuple, Generic[E]):
    """A feed: how the next events of some projects are read, and how one goes out."""

    topic: Topic  #: of the hints that there is something new
    read: Callable[[Connection, Place, Collection[str], int], Page[E]]
    record: Callable[[E], Recorded]


class Passed(NamedTuple, Generic[E]):
    """An event of the feed, encoded once for all who read it."""

    fed: E
    recorded: Recorded


class Batch(NamedTuple, Generic[E]):
    """What one look has found: at least one event."""

    events: list[Passed[E]]
    began: Place  #: what was known before
    ended: Place  #: and is known with it
    characters: int


class Marked(NamedTuple):
    """An event for a reader, and the place from which the next ones can be had."""

    recorded: Recorded
    place: Place


class Tail(Generic[E]):
    """An async context manager, for as long as the process serves."""

    def __init__(self, database: Reads, hub: Hub, draining: Draining, source: Source[E]) -> None:
        self.draining = draining
        self._database, self._hub, self._source = database, hub, source
        self._readers: set[FeedReader[E]] = set()
        self._batches: deque[Batch[E]] = deque()
        self._events = self._characters = 0  # in them
        self._place: Place | None = None  # None: nobody follows
        self._looking = asyncio.Lock()  # held while looks go on; who joins waits for it
        self._due, self._wanted = asyncio.Event(), asyncio.Event()
        self._background = Background()
        self.next_number = 0  #: of the batch that comes next

    async def __aenter__(self) -> Self:
        self.draining.call(self._wake_all)
        self._background.begin("tail", self._keep_up())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._background.end()

    def __len__(self) -> int:
        """How many follow."""
        return len(self._readers)

    @asynccontextmanager
    async def follow(
        self, wanted: Wanted[E], after: Position | None = None
    ) -> AsyncIterator["FeedReader[E]"]:
        """The events after a position; without one, or if it is of another epoch, from now on.

        DatabaseUnavailable before anything else.
        """
        reader = FeedReader(self, wanted)
        try:
            async with self._looking:
                self._readers.add(reader)
                if self._place is None:
                    self._place = (await self.read_position()).place
                self._wanted.set()
            yield await reader.open(after)
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._wanted.clear()
                self._place = None
                self._batches.clear()
                self._events = self._characters = 0

    async def read_position(self) -> Position:
        """The newest one."""
        return await self._database.run(read_position)

    async def read_page(self, place: Place, project_id: str) -> tuple[list[Passed[E]], Place, bool]:
        """What comes after the place, where it ends, and whether that was all. For one reader."""
        page = await self._database.run(self._source.read, place, [project_id], PAGE)
        return self._passed(page.events), page.place, page.is_last

    def batch(self, number: int) -> Batch[E] | None:
        """The batch of that number, which has come; None: it is not kept any more."""
        first = self.next_number - len(self._batches)
        return None if number < first else next(islice(self._batches, number - first, None))

    def _wake_all(self) -> None:
        for reader in self._readers:
            reader.wake()

    async def _keep_up(self) -> None:
        """Until it is cancelled, the batches do not stay behind the log."""
        is_away = False
        while True:
            await self._wanted.wait()
            with self._hub.hints(self._due.set, self._source.topic):
                while self._readers:
                    await self._pause()
                    try:
                        await self._look()
                        is_away = False
                    except (DatabaseUnavailable, DBAPIError) as error:
                        if not is_away:
                            cause = repr(error.__cause__ or error)
                            _log.warning("the feed waits for the database", cause=cause)
                        is_away = True
                        self._due.set()
                        await asyncio.sleep(DATABASE_PAUSE)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_EVERY):
                await self._due.wait()
                await asyncio.sleep(GATHER)
        self._due.clear()

    async def _look(self) -> None:
        """All that had ended before is in a batch."""
        is_last = False
        while not is_last:
            async with self._looking:
                if (place := self._place) is None:
                    return
                projects = {reader.wanted.project_id for reader in self._readers}
                page = await self._database.run(self._source.read, place, projects, PAGE)
                if self._place is not place:
                    return  # all have left meanwhile
                self._place, is_last = page.place, page.is_last
                if page.events:
                    self._keep(self._passed(page.events), place, page.place)

    def _passed(self, events: Sequence[E]) -> list[Passed[E]]:
        return [Passed(each, self._source.record(each)) for each in events]

    def _keep(self, events: list[Passed[E]], began: Place, ended: Place) -> None:
        characters = sum(len(each.recorded.json) for each in events)
        batch = Batch(events, began, ended, characters)
        self._batches.append(batch)
        self.next_number += 1
        self._events += len(events)
        self._characters += batch.characters
        while self._events > KEPT_EVENTS or self._characters > KEPT_CHARACTERS:
            gone = self._batches.popleft()
            self._events -= len(gone.events)
            self._characters -= gone.characters
        self._wake_all()


class FeedReader(Generic[E]):
    """One reader's way through the feed. However slow it is, it has only its place."""

    def __init__(self, tail: Tail[E], wanted: Wanted[E]) -> None:
        self.wanted = wanted
        self.epoch = ""  #: of the database
        self.place = Place(Snapshot(0))  #: all up to here was handed out
        self.is_reset = False  #: the position that was asked for is not of this database
        self._tail = tail
        self._woken = asyncio.Event()
        self._is_behind = False  # it reads the log; else it follows the batches
        self._seen = Snapshot(0)  # it has what this sees, whatever batches bring
        self._next = 0  # the batch that it takes next
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        """Its reader has left, or the process has been told to end."""
        return self._stopped or self._tail.draining.is_set

    @property
    def has_news(self) -> bool:
        """There is something to `take`, or to look for."""
        return self._is_behind or self._next < self._tail.next_number

    def wake(self) -> None:
        """It looks again."""
        self._woken.set()

    def stop(self) -> None:
        """A `wait` ends at once."""
        self._stopped = True
        self._woken.set()

    async def open(self, after: Position | None) -> Self:
        """It begins after that position, or now."""
        self._next = self._tail.next_number
        newest = await self._tail.read_position()
        self.epoch, self.place = newest
        self._seen = self.place.after
        if after is not None:
            self.is_reset = not newest.has_reached(after)
            if not self.is_reset:
                self.place, self._is_behind = after.place, True
        return self

    async def wait(self) -> None:
        """There are news, or it is stopped."""
        while not (self.has_news or self.is_stopped):
            self._woken.clear()
            await self._woken.wait()

    async def take(self) -> list[Marked]:
        """The next events, if there are any. DatabaseUnavailable: the same call may succeed later.

        `place` is then where they lead to.
        """
        if self._is_behind:
            passed, began, ended = await self._from_log()
        else:
            passed, began, ended = self._from_batch()
        self.place = ended
        events = [each for each in passed if self.wanted.matches(each.fed)]
        marked = [Marked(each.recorded, _after(each, began, ended)) for each in events]
        if marked and ended.until is None:
            marked[-1] = Marked(marked[-1].recorded, ended)
        return marked

    async def _from_log(self) -> tuple[list[Passed[E]], Place, Place]:
        began, number = self.place, self._tail.next_number
        passed, ended, is_last = await self._tail.read_page(began, self.wanted.project_id)
        if is_last:
            self._is_behind, self._next, self._seen = False, number, ended.after
        return passed, began, ended

    def _from_batch(self) -> tuple[list[Passed[E]], Place, Place]:
        is_news = self._next < self._tail.next_number
        batch = self._tail.batch(self._next) if is_news else None
        if batch is None:
            self._is_behind = is_news  # the batch is not kept any more
            return [], self.place, self.place
        self._next += 1
        news = [each for each in batch.events if not self._seen.sees(each.fed.xact_id)]
        return news, batch.began, batch.ended


def _after(passed: Passed[E], began: Place, ended: Place) -> Place:
    """The place behind an event in the middle of a piece."""
    return Place(began.after, ended.newest, passed.fed.key)
