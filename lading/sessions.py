"""What the blocks of `context.transaction` work with: sessions that do not end their transaction.

It needs SQLModel, which authoring does not; so only what runs handlers imports it.
"""

from typing import NoReturn, cast

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.asyncio import AsyncSession as AnyAsyncSession
from sqlalchemy.orm import Session as AnySession
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession


class BlockSession(Session):
    """A session as any other; but what it does is committed at the end of its block, at once.

    Savepoints (`begin_nested`) are its own affair.
    """

    execute = AnySession.execute  # without SQLModel's advice to call `exec`, which takes no text

    def commit(self) -> NoReturn:
        self._refuse("commit")

    def rollback(self) -> NoReturn:
        self._refuse("rollback")

    def prepare(self) -> NoReturn:
        self._refuse("prepare")

    def close(self) -> NoReturn:
        self._refuse("close")

    def reset(self) -> NoReturn:
        self._refuse("reset")

    def invalidate(self) -> NoReturn:
        self._refuse("invalidate")

    def _refuse(self, verb: str) -> NoReturn:
        raise RuntimeError(
            f"{verb}() inside context.transaction(): its block is committed at its end, and rolled"
            " back when it raises; use begin_nested() for a part of it"
        )


class AsyncBlockSession(AsyncSession):
    """The same for `async def` handlers."""

    execute = AnyAsyncSession.execute  # see BlockSession

    def __init__(self, engine: AsyncEngine | None) -> None:
        super().__init__(engine, sync_session_class=BlockSession, expire_on_commit=False)


def open_session(engine: Engine) -> BlockSession:
    """For a `def` handler. What it has loaded can be read after the block."""
    return BlockSession(engine, expire_on_commit=False)


def commit(session: AnySession) -> None:
    """The block's writes stand: what only its end may do."""
    Session.commit(cast("Session", session))


def close(session: AnySession) -> None:
    """What was not committed is undone, and the connection is free."""
    Session.close(cast("Session", session))
