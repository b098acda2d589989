"""Hints in: one subscription per process, kept only while somebody wants to hear them.

It comes back by itself; what was said in between is the caller's to read elsewhere, once
`on_open` has been called.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jobs.hints import EVENTS

CONNECT_WITHIN = 2.0  # seconds
QUIET = 5.0  # seconds without a message after which Redis is asked whether it is there
FIRST_PAUSE = 0.1  # seconds between two tries to reach Redis; doubles
LONGEST_PAUSE = 2.0  # seconds; as long as a stream without hints is late
BUSY = 300  # hints a second; beyond, those of GATHER share what it costs to wake up for them
PACE_OF = 0.1  # seconds in which they are counted
GATHER = 0.004  # seconds; a lone job's hints never wait
AT_ONCE = 0.0005  # seconds; what took longer to come was not there yet when it was asked for
BURST = 64  # hints, after which other tasks have their turn
LINGER = 10.0  # seconds a subscription is kept after the last one who wanted it

_log = structlog.get_logger(__name__)


class Pace:
    """Whether so many hints come that it pays to wait a moment for more. Times are seconds."""

    def __init__(self, now: float) -> None:
        self._since, self._heard, self._is_busy = now, 0, False

    def count(self, hints: int) -> None:
        """They have come."""
        self._heard += hints

    def is_busy_at(self, now: float) -> bool:
        """By what came in the last PACE_OF, or since it was asked before that."""
        seconds = now - self._since
        if seconds >= PACE_OF:
            self._is_busy = self._heard > BUSY * seconds
            self._since, self._heard = now, 0
        return self._is_busy


class Subscription:
    """Calls `on_message` for each hint, and `on_open` each time when hints begin to come."""

    def __init__(
        self,
        broker_url: str,
        *,
        on_open: Callable[[], None],
        on_message: Callable[[bytes], None],
    ) -> None:
        self._broker_url = broker_url
        self._on_open, self._on_message = on_open, on_message
        self._wanted = asyncio.Event()
        self._unwanted_at = 0.0
        self._heard = 0  # messages

    def want(self) -> None:
        """Hints come as soon as Redis allows."""
        self._wanted.set()

    def unwant(self) -> None:
        """Hints may stop; soon they do."""
        self._wanted.clear()
        self._unwanted_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self._wanted.wait()
            try:
                async with self._opened() as pubsub:
                    pause = FIRST_PAUSE
                    await self._hear(pubsub)
            except (RedisError, OSError) as error:
                if pause == FIRST_PAUSE:
                    _log.warning("streams go on without hints", cause=str(error))
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[PubSub]:
        # No socket_timeout: redis-py would send inside asyncio.wait_for, which in Python 3.11
        # forgets a cancel that comes as the sending ends (CPython's issue 86296).
        client = Redis.from_url(
            self._broker_url,
            protocol=2,  # a third of the cost a message
            retry=Retry(NoBackoff(), 0),  # a connection that came back silently would hide a gap
            socket_connect_timeout=CONNECT_WITHIN,
            socket_timeout=None,
        )
        try:
            async with client.pubsub() as pubsub:
                async with asyncio.timeout(CONNECT_WITHIN):
                    await pubsub.subscribe(EVENTS)
                yield pubsub
        finally:
            await client.aclose()

    async def _hear(self, pubsub: PubSub) -> None:
        """Until nobody wants it; RedisError or OSError when Redis is away, or silent."""
        listening = asyncio.create_task(self._listen(pubsub))
        is_asked = False
        try:
            while self._is_wanted() and not listening.done():
                heard = self._heard
                await asyncio.wait([listening], timeout=QUIET)
                if self._heard != heard:
                    is_asked = False
                elif is_asked:
                    raise TimeoutError(f"Redis has said nothing for {2 * QUIET:.0f} s")
                elif not listening.done():
                    is_asked = True
                    async with asyncio.timeout(CONNECT_WITHIN):
                        await pubsub.ping()
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, pubsub: PubSub) -> None:
        loop, in_a_row = asyncio.get_running_loop(), 0
        pace = Pace(loop.time())
        while True:
            asked_at = loop.time()
            kind, *_, said = await pubsub.parse_response()
            now = loop.time()
            if pace.is_busy_at(now) and now > asked_at + AT_ONCE:
                await asyncio.sleep(GATHER)
            self._heard += 1
            if kind == b"message":
                lines = said.split(b"\n")
                for line in lines:
                    self._on_message(line)
                in_a_row += len(lines)
                pace.count(len(lines))
            elif kind == b"subscribe":
                self._on_open()
            if in_a_row >= BURST:
                in_a_row = 0
                await asyncio.sleep(0)

    def _is_wanted(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._wanted.is_set() or now < self._unwanted_at + LINGER
