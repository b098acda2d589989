"""Whether the servers that this process stands on answer; asked once a second at most."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.database import Database
from jobs.errors import DatabaseUnavailable
from jobs.queues import Alive, count_alive
from jobs.settings import Settings

FRESH = 1.0  # seconds: whoever asks needs no key, and must not be able to keep the servers busy
PATIENCE = 2.0  # seconds; a database that takes longer is away
BROKER_TIMEOUT = 1.0  # seconds


class Readiness:
    """For the event loop's thread alone."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database, self._lease = database, settings.lease
        self._broker = Redis.from_url(
            settings.broker_url.get_secret_value(),
            socket_timeout=BROKER_TIMEOUT,
            socket_connect_timeout=BROKER_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        self._asked: asyncio.Task[Alive | None] | None = None
        self._known: dict[str, Any] = {}
        self._known_at = -FRESH
        self._asking = asyncio.Lock()

    async def document(self) -> dict[str, Any]:
        """`status`, and what it is made of."""
        async with self._asking:
            if time.monotonic() - self._known_at >= FRESH:
                self._known = await self._ask()
                self._known_at = time.monotonic()
        return dict(self._known)

    async def close(self) -> None:
        """Its connection is closed."""
        await self._broker.aclose()

    async def _ask(self) -> dict[str, Any]:
        alive, broker_answers = await asyncio.gather(self._ask_database(), self._ask_broker())
        status = "ready" if broker_answers else "degraded"
        return {
            "status": "unavailable" if alive is None else status,
            "database": "away" if alive is None else "ok",
            "broker": "ok" if broker_answers else "away",
            "dispatchers": alive.dispatchers if alive else None,
            "workers": alive.workers if alive else None,
        }

    async def _ask_database(self) -> Alive | None:
        """A question that is still open when its time is over goes on, and serves the next one."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._count_alive())
        done, _ = await asyncio.wait({self._asked}, timeout=PATIENCE)
        return self._asked.result() if done else None

    async def _count_alive(self) -> Alive | None:
        try:
            return await self._database.run(count_alive, self._lease)
        except DatabaseUnavailable:
            return None

    async def _ask_broker(self) -> bool:
        try:
            return bool(await self._broker.ping())
        except (RedisError, OSError):
            return False
