"""The open WebSockets of this process: how many a key has, and how much it asks.

Limits count what this process serves; they keep one key from taking the place of all others.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from api.draining import Draining
from api.keyring import Principal
from api.problems import Problem
from api.rates import Rates
from api.revocation import Revocation, Served

COMMANDS_PER_SECOND = 50  # of one key: a submission each; for more there is /v1/jobs/batch
COMMANDS_AT_ONCE = 100  # of one key, after a while of silence
MOST_REMEMBERED = 10_000  # keys


class Socket(Served, Protocol):
    """What an open WebSocket is told."""

    def drain(self) -> None:
        """The process has been told to end."""


class Sockets:
    """Of one process. For the event loop's thread alone."""

    def __init__(
        self, revocation: Revocation, draining: Draining, rates: Rates, most_per_key: int
    ) -> None:
        self._revocation, self._draining, self._rates = revocation, draining, rates
        self._most_per_key = most_per_key
        self._open: set[Socket] = set()
        self._of_key: Counter[str] = Counter()
        self._commands: dict[str, tuple[float, float]] = {}  # left, and when that was so
        draining.call(self._drain)

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
        self._open.add(socket)
        self._of_key[key_id] += 1
        try:
            with self._draining.held(), self._revocation.heeded(principal, socket):
                yield
        finally:
            self._open.remove(socket)
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

    def _drain(self) -> None:
        for socket in [*self._open]:
            socket.drain()
