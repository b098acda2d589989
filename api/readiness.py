"""Whether the servers that this process stands on answer; asked once a second at most."""

import asyncio
import time
from datetime import timedelta
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import Connection

from api.database import Database
from jobs.accounts import Standing, read_standing
from jobs.errors import DatabaseUnavailable
from jobs.queues import Alive, count_alive
from jobs.settings import Settings

FRESH = 1.0  # seconds: whoever asks needs no key, and must not be able to keep the servers busy
PATIENCE = 2.0  # seconds; a database that takes longer is away
BROKER_TIMEOUT = 1.0  # seconds


class Answer(NamedTuple):
    """What the database says, since it does."""

    alive: Alive
    accounts: Standing


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
        self._asked: asyncio.Task[Answer | None] | None = None
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
        answer, broker_answers = await asyncio.gather(self._ask_database(), self._ask_broker())
        servers = {
            "database": "away" if answer is None else "ok",
            "broker": "ok" if broker_answers else "away",
        }
        if answer is None:
            return {"status": "unavailable", **servers, **_UNKNOWN}
        unaccounted = sum(answer.accounts.unaccounted.values())
        checked_at = answer.accounts.checked_at
        return {
            "status": "ready" if broker_answers and not unaccounted else "degraded",
            **servers,
            "dispatchers": answer.alive.dispatchers,
            "workers": answer.alive.workers,
            "jobs_unaccounted": None if checked_at is None else unaccounted,
            "accounts_checked_at": checked_at,
        }

    async def _ask_database(self) -> Answer | None:
        """A question that is still open when its time is over goes on, and serves the next one."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._read())
        done, _ = await asyncio.wait({self._asked}, timeout=PATIENCE)
        return self._asked.result() if done else None

    async def _read(self) -> Answer | None:
        try:
            return await self._database.run(_read, self._lease)
        except DatabaseUnavailable:
            return None

    async def _ask_broker(self) -> bool:
        try:
            return bool(await self._broker.ping())
        except (RedisError, OSError):
            return False


def _read(connection: Connection, lease: timedelta) -> Answer:
    return Answer(count_alive(connection, lease), read_standing(connection))


_UNKNOWN = dict.fromkeys(("dispatchers", "workers", "jobs_unaccounted", "accounts_checked_at"))
