"""Hints in: one subscription per process, kept only while somebody wants to hear them.

It comes back by itself; what was said in between is the caller's to read elsewhere, once
`on_open` has been called.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.listening import Listening
from jobs.hints import EVENTS

CONNECT_WITHIN = 2.0  # seconds
QUIET = 5.0  # seconds without a message after which Redis is asked whether it is there
FIRST_PAUSE = 0.1  # seconds between two tries to reach Redis; doubles
LONGEST_PAUSE = 2.0  # seconds; as long as a stream without hints is late
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
            await self._wanted.wait()
            try:
                async with self._opened() as connection:
                    pause = FIRST_PAUSE
                    await self._hear(connection)
            except (RedisError, OSError) as error:
                if pause == FIRST_PAUSE:
                    _log.warning("streams go on without hints", cause=str(error))
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[AbstractConnection]:
        # No socket_timeout: redis-py would send inside asyncio.wait_for, which in Python 3.11
        # forgets a cancel that comes as the sending ends (CPython's issue 86296).
        pool = ConnectionPool.from_url(
            self._broker_url,
            protocol=2,  # answers are told apart by their first word
            retry=Retry(NoBackoff(), 0),  # a connection that came back silently would hide a gap
            socket_connect_timeout=CONNECT_WITHIN,
            socket_timeout=None,
        )
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    async def _hear(self, connection: AbstractConnection) -> None:
        """Until nobody wants it; RedisError or OSError when Redis is away, or silent."""
        writer = connection._writer  # noqa: SLF001 - nothing else leads to the transport
        assert writer is not None
        transport = cast("asyncio.Transport", writer.transport)
        listening = Listening(transport, on_open=self._on_open, on_message=self._on_message)
        is_asked = False
        try:
            await _say(connection, "SUBSCRIBE", EVENTS)
            while self._is_wanted() and not listening.is_over.done():
                answers = listening.answers
                await asyncio.wait([listening.is_over], timeout=QUIET)
                if listening.answers != answers:
                    is_asked = False
                elif is_asked:
                    raise TimeoutError(f"Redis has said nothing for {2 * QUIET:.0f} s")
                elif not listening.is_over.done():
                    is_asked = True
                    await _say(connection, "PING")
            if listening.is_over.done():
                raise listening.is_over.result()
        finally:
            listening.end()

    def _is_wanted(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._wanted.is_set() or now < self._unwanted_at + LINGER


async def _say(connection: AbstractConnection, *command: str) -> None:
    async with asyncio.timeout(CONNECT_WITHIN):
        await connection.send_command(*command, check_health=False)
