"""The block of `context.transaction(name)`: entered, left, or, when its step is stored, skipped."""

import sys
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, cast

from lading.skipping import Skipping

if TYPE_CHECKING:  # authoring does not need them
    from sqlmodel import Session
    from sqlmodel.ext.asyncio.session import AsyncSession

    SyncBlock = AbstractContextManager[Session, bool]
    AsyncBlock = AbstractAsyncContextManager[AsyncSession, bool]
else:
    SyncBlock, AsyncBlock = AbstractContextManager, AbstractAsyncContextManager


class Block(SyncBlock):
    """In `def` handlers."""

    _skipping: Skipping | None = None

    def __enter__(self) -> "Session":
        if not self._is_done():
            return self._open()
        self._skipping = Skipping()
        return cast("Session", self._skipping.begin(sys._getframe(1)))  # noqa: SLF001 - the caller's

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        if self._skipping is not None:
            return self._skipping.end(error)
        self._close(error)
        return False

    @abstractmethod
    def _is_done(self) -> bool:
        """Whether an earlier attempt has committed the block."""

    @abstractmethod
    def _open(self) -> "Session":
        """The transaction has begun."""

    @abstractmethod
    def _close(self, error: BaseException | None) -> None:
        """It is committed with its step, or, when the block raised `error`, rolled back."""


class AwaitedBlock(AsyncBlock):
    """In `async def` handlers."""

    _skipping: Skipping | None = None

    async def __aenter__(self) -> "AsyncSession":
        if not await self._is_done():
            return await self._open()
        self._skipping = Skipping()
        return cast("AsyncSession", self._skipping.begin(sys._getframe(1)))  # noqa: SLF001 - see above

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        if self._skipping is not None:
            return self._skipping.end(error)
        await self._close(error)
        return False

    @abstractmethod
    async def _is_done(self) -> bool:
        """See Block."""

    @abstractmethod
    async def _open(self) -> "AsyncSession":
        """See Block."""

    @abstractmethod
    async def _close(self, error: BaseException | None) -> None:
        """See Block."""
