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
BURST = 64  # messages, after which other tasks have their turn
LINGER = 10.0  # seconds a subscription is kept after the last one who wanted it

_log = structlog.get_logger(__name__)


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
            _heed_cancel()
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
        client = Redis.from_url(
            self._broker_url,
            socket_connect_timeout=CONNECT_WITHIN,
            socket_timeout=CONNECT_WITHIN,
            retry=Retry(NoBackoff(), 0),  # a connection that came back silently would hide a gap
        )
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(EVENTS)
                yield pubsub
        finally:
            await client.aclose()

    async def _hear(self, pubsub: PubSub) -> None:
        asked = False
        heard = 0
        while self._is_wanted():
            _heed_cancel()
            message = await pubsub.get_message(timeout=QUIET)
            if message is None:
                if asked:
                    raise TimeoutError(f"Redis has said nothing for {2 * QUIET:.0f} s")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self._on_message(message["data"])
            elif message["type"] == "subscribe":
                self._on_open()
            heard += 1
            if heard % BURST == 0:
                await asyncio.sleep(0)

    def _is_wanted(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._wanted.is_set() or now < self._unwanted_at + LINGER


def _heed_cancel() -> None:
    """CancelledError, if this task was cancelled and has not heard of it.

    redis-py sends inside asyncio.wait_for, which in Python 3.11 forgets a cancel that comes as the
    sending ends (CPython's issue 86296); the process would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
