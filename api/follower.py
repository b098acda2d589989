"""Two ways to wait for a job's events: to follow them all, and to be woken by any."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, Self

from api.draining import Draining
from api.feed import Feed
from api.recorded import Page, Recorded
from jobs.errors import DatabaseUnavailable, JobNotFound

DATABASE_PAUSE = 0.5  # seconds before a database that is away is asked again


class Watching(Protocol):
    """What a waiter needs of api.hub.Hub."""

    def join(self, waiter: "Waiter") -> None:
        """From now on the waiter's feed wakes it."""

    def leave(self, waiter: "Waiter") -> None:
        """It is not woken any more."""

    async def read_page(self, project_id: str, feed: Feed, after: int) -> Page:
        """What the log has after that `seq`. JobNotFound, DatabaseUnavailable."""
        ...


class Way(Protocol):
    """How events go to a reader without a task, as long as none of them has to wait."""

    def send(self, events: Sequence[Recorded]) -> int:
        """As many of them as do not have to wait are on their way: so many."""
        ...

    def send_one(self, event: bytes) -> bool:
        """This one is on its way; False: nothing was done."""
        ...


class Waiter:
    """Is woken when something happens to a job, and when the process is told to end.

    An async context manager, inside which one task waits with it. (There are thousands, so that it
    is small.)
    """

    __slots__ = ("_draining", "_hub", "_is_woken", "_waking", "feed")

    def __init__(self, hub: Watching, feed: Feed, draining: Draining) -> None:
        self.feed = feed
        self._hub, self._draining = hub, draining
        self._is_woken = False
        self._waking: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._hub.join(self)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._hub.leave(self)

    def wake(self) -> None:
        """It looks again."""
        self._is_woken = True
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    def accept(self, _seq: int, _event: bytes) -> bool:
        """Whoever waits for any event reads it elsewhere."""
        self.wake()
        return True

    async def _wait_until(self, deadline: float | None) -> bool:
        """Whether it was woken before the deadline of the event loop's clock."""
        if not self._is_woken:
            self._waking = asyncio.get_running_loop().create_future()
            try:
                if deadline is None:
                    await self._waking
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(deadline):
                            await self._waking
            finally:
                self._waking = None
        return self._is_woken


class Watch(Waiter):
    """For a long poll: it reads the job by itself, and again when it was woken."""

    __slots__ = ()

    async def wait(self, seconds: float, seen: int | None = None) -> bool:
        """Whether something may have happened since the watch began, or since the last call.

        `seen` is the job's `seq` as it was read after the watch began; without it the answer comes
        at each sweep. False: `seconds` have passed, or the process has been told to end.
        """
        if seen is not None:
            self.feed.begin_after(seen)
            if (self.feed.newest or 0) > seen:
                self._is_woken = True
        deadline = asyncio.get_running_loop().time() + seconds
        woken = not self._draining.is_set and await self._wait_until(deadline)
        self._is_woken = False
        return woken and not self._draining.is_set


class Follower(Waiter):
    """One reader's way through a job's history: each event after `seq` once, in order.

    However slow it is, nothing is kept for it but its place.
    """

    __slots__ = (
        *("is_gone", "is_over", "way"),
        *("_first", "_project_id", "_seq", "_stays", "_stopped"),
    )

    def __init__(
        self,
        hub: Watching,
        feed: Feed,
        draining: Draining,
        *,
        project_id: str,
        after: int,
        stays: bool = False,
    ) -> None:
        super().__init__(hub, feed, draining)
        self._project_id, self._seq, self._stays = project_id, after, stays
        self._first: list[Recorded] = []
        self._stopped = False
        self.is_over = False  #: the final event was handed out, or there was nothing left
        self.is_gone = False  #: the job was deleted meanwhile
        #: Of one that stays, while `wait` waits.
        self.way: Way | None = None

    def wake(self) -> None:
        """It looks again; what goes its `way` wakes no task."""
        way = self.way
        if way is None or not self._give(way):
            super().wake()

    def accept(self, seq: int, event: bytes) -> bool:
        """Whether its reader has this event now; not where it does not have all before."""
        way = self.way
        # Whatever may end the reader wakes it: nothing else has to be looked at.
        if way is None or self._waking is None or self._is_woken or self._seq != seq - 1:
            return False
        if not way.send_one(event):
            return False
        self._seq = seq
        return True

    def _give(self, way: Way) -> bool:
        """Whether that was all."""
        if self._waking is None or self._is_woken or self._is_done:
            return False  # its task is at it
        events = self.feed.after(self._seq)
        if not events or not (taken := way.send(events)):
            return False
        self._seq = events[taken - 1].seq
        self._look_for_the_end()
        return taken == len(events) and not self._is_done

    @property
    def is_stopped(self) -> bool:
        """Its reader has left, or the process has been told to end."""
        return self._stopped or self._draining.is_set

    @property
    def _is_done(self) -> bool:
        return (self.is_over and not self._stays) or self.is_gone or self.is_stopped

    def stop(self) -> None:
        """A `read` that waits ends at once."""
        self._stopped = True
        super().wake()

    async def __aenter__(self) -> Self:
        """As `open`."""
        try:
            await self.open()
        except BaseException:
            self.close()
            raise
        return self

    async def open(self) -> None:
        """The log was read: JobNotFound and DatabaseUnavailable come from here alone.

        Whoever does not use it as a context manager has to `close` it, whatever happens.
        """
        self._hub.join(self)
        page = await self._hub.read_page(self._project_id, self.feed, self._seq)
        self._first = page.events
        self._look_for_the_end()

    def close(self) -> None:
        """It is not woken any more."""
        self._hub.leave(self)

    async def wait(self) -> None:
        """There is something to read, or no more will come; nothing was read for it."""
        while not (self._is_done or self._has_news):
            self._is_woken = False
            if not self._has_news:
                await self._wait_until(None)
            self._look_for_the_end()

    async def take(self) -> list[Recorded]:
        """The next events, without waiting for any."""
        events = [] if self._is_done else await self._next(None)
        if events:
            self._seq = events[-1].seq
        self._look_for_the_end()
        return events

    async def read(self, seconds: float | None = None) -> list[Recorded]:
        """The next events, as soon as there is one.

        None when `seconds` have passed, or no more will come: it is over, gone or stopped.
        """
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        events: list[Recorded] = []
        while not self._is_done:
            self._is_woken = False
            events = await self._next(deadline)
            if events:
                self._seq = events[-1].seq
            self._look_for_the_end()
            if events or self._is_done or not await self._wait_until(deadline):
                break
        return events

    @property
    def _has_news(self) -> bool:
        return bool(self._first) or self.feed.after(self._seq) != []

    async def _next(self, deadline: float | None) -> list[Recorded]:
        if self._first:
            events, self._first = self._first, []
            return events
        known = self.feed.after(self._seq)
        return await self._from_log(deadline) if known is None else known

    async def _from_log(self, deadline: float | None) -> list[Recorded]:
        """A database that is away is waited for; the stream does not end with it."""
        loop = asyncio.get_running_loop()
        while not self.is_stopped and (deadline is None or loop.time() < deadline):
            try:
                return (await self._hub.read_page(self._project_id, self.feed, self._seq)).events
            except JobNotFound:
                self.is_gone = True
                return []
            except DatabaseUnavailable:
                self._is_woken = False
                await self._wait_until(loop.time() + DATABASE_PAUSE)
        return []

    def _look_for_the_end(self) -> None:
        feed = self.feed
        newest = feed.newest
        reached = newest is not None and self._seq >= newest and not self._first
        self.is_over = reached and feed.is_over
        self.is_gone = self.is_gone or feed.is_gone
