"""Whoever is served for longer than the check at the beginning: streams, sockets and long polls.

Their keys are looked at again every CHECK_EVERY; whose key was deleted, or has expired, is told,
and ends. One query for the whole process, and none while nobody is served for long.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self

import structlog
from sqlalchemy.exc import DBAPIError

from api.background import Background
from api.database import Database
from api.keyring import Principal
from jobs.errors import DatabaseUnavailable
from jobs.keys.store import find_existing

CHECK_EVERY = 10.0  # seconds; what a deleted key has opened ends within thirty

_log = structlog.get_logger(__name__)


class Served(Protocol):
    """What is told that its key is not good any more."""

    def revoke(self) -> None:
        """Its key is not good any more."""


class Standing:
    """Whether a key is still good, as its stream or long poll knows it."""

    __slots__ = ("_wake", "is_revoked")

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when it is not."""
        self.is_revoked = False
        self._wake = wake

    def revoke(self) -> None:
        """Its key is not good any more."""
        self.is_revoked = True
        self._wake()


class Revocation:
    """An async context manager, for as long as the process serves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._served: dict[Served, str] = {}  # with its key's id
        self._background = Background()

    async def __aenter__(self) -> Self:
        self._background.begin("revocation", self._check())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._background.end()

    def __len__(self) -> int:
        return len(self._served)

    @contextmanager
    def heeded(self, principal: Principal, served: Served) -> Iterator[None]:
        """Inside, it is told when its key is not good any more."""
        self._served[served] = principal.key_id
        try:
            yield
        finally:
            del self._served[served]

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            asked = {*self._served.values()}
            if not asked:
                continue
            try:
                good = await self._database.run(find_existing, asked)
            except (DatabaseUnavailable, DBAPIError) as error:
                _log.warning("keys are not looked at", cause=repr(error.__cause__ or error))
                continue
            gone = asked - good
            for served in [each for each, key_id in self._served.items() if key_id in gone]:
                served.revoke()
