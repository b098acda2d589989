"""Two ways to wait for a job's events: to follow them all, and to be woken by any."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from api.draining import Draining
from api.feed import Feed
from api.recorded import Page, Recorded
from jobs.errors import DatabaseUnavailable, JobNotFound

DATABASE_PAUSE = 0.5  # seconds before a database that is away is asked again


class Waiter:
    """Is woken when something happens to a job, and when the process is told to end."""

    def __init__(self, feed: Feed, woken: asyncio.Event, draining: Draining) -> None:
        """`woken` is among those that the feed sets."""
        self._feed, self._woken, self._draining = feed, woken, draining

    async def _wait_until(self, deadline: float | None) -> bool:
        """Whether it was woken before the deadline of the event loop's clock."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        return self._woken.is_set()


class Watch(Waiter):
    """For a long poll: it reads the job by itself, and again when it was woken."""

    async def wait(self, seconds: float, seen: int | None = None) -> bool:
        """Whether something may have happened since the watch began, or since the last call.

        `seen` is the job's `seq` as it was read after the watch began; without it the answer comes
        at each sweep. False: `seconds` have passed, or the process has been told to end.
        """
        if seen is not None:
            self._feed.begin_after(seen)
            if (self._feed.newest or 0) > seen:
                self._woken.set()
        deadline = asyncio.get_running_loop().time() + seconds
        woken = not self._draining.is_set and await self._wait_until(deadline)
        self._woken.clear()
        return woken and not self._draining.is_set


class Follower(Waiter):
    """One reader's way through a job's history: each event after `seq` once, in order.

    However slow it is, nothing is kept for it but its place.
    """

    def __init__(
        self,
        feed: Feed,
        woken: asyncio.Event,
        draining: Draining,
        *,
        after: int,
        read_page: Callable[[int], Awaitable[Page]],
        stays: bool = False,
    ) -> None:
        super().__init__(feed, woken, draining)
        self._seq, self._read_page, self._stays = after, read_page, stays
        self._first: list[Recorded] = []
        self._stopped = False
        self.is_over = False  #: the final event was handed out, or there was nothing left
        self.is_gone = False  #: the job was deleted meanwhile

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
        self._woken.set()

    async def open(self) -> Self:
        """The log was read: JobNotFound and DatabaseUnavailable come from here alone."""
        page = await self._read_page(self._seq)
        self._first = page.events
        self._look_for_the_end()
        return self

    async def wait(self) -> None:
        """There is something to read, or no more will come; nothing was read for it."""
        while not (self._is_done or self._has_news):
            self._woken.clear()
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
            self._woken.clear()
            events = await self._next(deadline)
            if events:
                self._seq = events[-1].seq
            self._look_for_the_end()
            if events or self._is_done or not await self._wait_until(deadline):
                break
        return events

    @property
    def _has_news(self) -> bool:
        return bool(self._first) or self._feed.after(self._seq) != []

    async def _next(self, deadline: float | None) -> list[Recorded]:
        if self._first:
            events, self._first = self._first, []
            return events
        known = self._feed.after(self._seq)
        return await self._from_log(deadline) if known is None else known

    async def _from_log(self, deadline: float | None) -> list[Recorded]:
        """A database that is away is waited for; the stream does not end with it."""
        loop = asyncio.get_running_loop()
        while not self.is_stopped and (deadline is None or loop.time() < deadline):
            try:
                return (await self._read_page(self._seq)).events
            except JobNotFound:
                self.is_gone = True
                return []
            except DatabaseUnavailable:
                self._woken.clear()
                await self._wait_until(loop.time() + DATABASE_PAUSE)
        return []

    def _look_for_the_end(self) -> None:
        newest = self._feed.newest
        reached = newest is not None and self._seq >= newest and not self._first
        self.is_over = reached and self._feed.is_over
        self.is_gone = self.is_gone or self._feed.is_gone
