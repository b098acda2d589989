"""Transactions of `lading.testing`: on the test's own database, with the rules of the real ones."""

from typing import Any

from sqlalchemy import Engine, StaticPool, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.util.concurrency import greenlet_spawn
from sqlmodel.ext.asyncio.session import AsyncSession

from lading.blocks import AwaitedBlock, Block
from lading.context import StepNames
from lading.sessions import AsyncBlockSession, BlockSession, close, commit, open_session


class Stage:
    """One run's: the records that its blocks change."""

    def __init__(
        self,
        steps: dict[str, Any],
        said: list[list[Any]],
        names: StepNames,
        engine: Engine | None,
    ) -> None:
        self.steps, self.said, self.names = steps, said, names
        self.engine = engine or create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )

    def block(self, name: str) -> "RehearsedBlock":
        """Of a `def` handler."""
        return RehearsedBlock(_Work(self, name))

    def awaited_block(self, name: str) -> "RehearsedAwaitedBlock":
        """Of an `async def` handler."""
        return RehearsedAwaitedBlock(_Work(self, name))


class _HoldingSession(AsyncBlockSession):
    """An AsyncSession on a plain engine: it holds the event loop, which a test does not mind."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(None)
        self.sync_session.bind = engine

    async def execute(self, *args: Any, **options: Any) -> Any:
        return await greenlet_spawn(Session.execute, self.sync_session, *args, **options)

    async def exec(self, *args: Any, **options: Any) -> Any:
        return await greenlet_spawn(self.sync_session.exec, *args, **options)


class _Work:
    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self._name = stage, name
        self._before: list[int] = []

    def is_done(self) -> bool:
        self.stage.names.enter(self._name)
        self._before = [len(each) for each in self.stage.said]
        return self._name in self.stage.steps

    def end(self, session: Session, error: BaseException | None) -> None:
        is_committed = False
        try:
            if error is None:
                commit(session)
                self.stage.steps[self._name] = None
                is_committed = True
        finally:
            close(session)
            if not is_committed:
                for said, before in zip(self.stage.said, self._before, strict=True):
                    del said[before:]
                self.stage.names.leave(self._name)


class RehearsedBlock(Block):
    """See JobContext.transaction."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def _is_done(self) -> bool:
        return self._work.is_done()

    def _open(self) -> BlockSession:
        self._session = open_session(self._work.stage.engine)
        return self._session

    def _close(self, error: BaseException | None) -> None:
        self._work.end(self._session, error)


class RehearsedAwaitedBlock(AwaitedBlock):
    """See AsyncJobContext.transaction."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    async def _is_done(self) -> bool:
        return self._work.is_done()

    async def _open(self) -> AsyncSession:
        self._session = _HoldingSession(self._work.stage.engine)
        return self._session

    async def _close(self, error: BaseException | None) -> None:
        await self._session.run_sync(self._work.end, error)
