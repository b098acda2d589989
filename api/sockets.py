"""The open WebSockets of this process: how many a key has, how much it asks, whether it is good.

A socket outlives the check at its beginning, so keys are looked at again every CHECK_EVERY: whose
key was deleted, or has expired, is told. Limits count what this process serves; they keep one key
from taking the place of all others.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, Self

import structlog
from sqlalchemy.exc import DBAPIError

from api.database import Database
from api.draining import Draining
from api.hub import log_failure
from api.keyring import Principal
from api.problems import Problem
from api.rates import Rates
from jobs.errors import DatabaseUnavailable
from jobs.keys.store import find_existing

CHECK_EVERY = 10.0  # seconds; a deleted key's sockets are closed within thirty
COMMANDS_PER_SECOND = 50  # of one key: a submission each; for more there is /v1/jobs/batch
COMMANDS_AT_ONCE = 100  # of one key, after a while of silence
MOST_REMEMBERED = 10_000  # keys

_log = structlog.get_logger(__name__)


class Socket(Protocol):
    """What an open WebSocket is told."""

    def revoke(self) -> None:
        """Its key is not good any more."""

    def drain(self) -> None:
        """The process has been told to end."""


class Sockets:
    """An async context manager, for as long as the process serves."""

    def __init__(
        self, database: Database, draining: Draining, rates: Rates, most_per_key: int
    ) -> None:
        self._database, self._draining, self._rates = database, draining, rates
        self._most_per_key = most_per_key
        self._open: dict[Socket, str] = {}  # with its key's id
        self._of_key: Counter[str] = Counter()
        self._commands: dict[str, tuple[float, float]] = {}  # left, and when that was so
        self._checking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._draining.call(self._drain)
        self._checking = asyncio.create_task(self._check(), name="sockets-keys")
        self._checking.add_done_callback(log_failure)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._checking is not None
        self._checking.cancel()
        await asyncio.gather(self._checking, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def most_per_key(self) -> int:
        """Sockets that a key may have open here."""
        return self._most_per_key

    @contextmanager
    def opened(self, principal: Principal, socket: Socket) -> Iterator[None]:
        """Inside, the socket counts, and is told what it has to know. Problem 429."""
        key_id = principal.key_id
        if (taken := self._rates.take(principal)) is not None and not taken.is_granted:
            raise taken.refusal()
        if self._of_key[key_id] >= self._most_per_key:
            detail = f"This key has {self._most_per_key} WebSockets open here already."
            raise Problem("rate-limited", detail, headers={"Retry-After": "1"})
        self._open[socket] = key_id
        self._of_key[key_id] += 1
        try:
            with self._draining.held():
                yield
        finally:
            del self._open[socket]
            self._of_key[key_id] -= 1
            if not self._of_key[key_id]:
                del self._of_key[key_id]

    def take_command(self, principal: Principal) -> bool:
        """Whether the key may ask for one more now (a token bucket), whatever its own rate is."""
        now = asyncio.get_running_loop().time()
        if len(self._commands) >= MOST_REMEMBERED:
            self._commands.clear()
        left, at = self._commands.get(principal.key_id, (float(COMMANDS_AT_ONCE), now))
        left = min(COMMANDS_AT_ONCE, left + (now - at) * COMMANDS_PER_SECOND)
        self._commands[principal.key_id] = (max(0.0, left - 1), now)
        return left >= 1

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            asked = set(self._of_key)
            if not asked:
                continue
            try:
                good = await self._database.run(find_existing, asked)
            except (DatabaseUnavailable, DBAPIError) as error:
                _log.warning(
                    "keys of sockets are not checked", cause=repr(error.__cause__ or error)
                )
                continue
            gone = asked - good
            for socket in [each for each, key_id in self._open.items() if key_id in gone]:
                socket.revoke()

    def _drain(self) -> None:
        for socket in [*self._open]:
            socket.drain()
