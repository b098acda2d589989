"""`context.transaction(name)`: a handler's own writes, committed with the step that says so.

The step's statement takes the job's row for the time until the commit, and only for the attempt
that owns the job; so of all attempts, frozen ones included, one commits the block. A block's code
runs once in a call, whatever happens to its commit.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from jobs.database import STATEMENT_TIMEOUT, translated
from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Moved
from lading.blocks import AwaitedBlock, Block
from lading.sessions import BlockSession, close, commit
from worker import publishing
from worker.patience import FIRST_PAUSE
from worker.steps import MISSING, Scope, within
from worker.tie import Tie

# The token is gone when its transaction is; path and role are as they were when we write.
_BEGIN = sa.text("""
SELECT set_config('lading.block', :token, true), set_config('statement_timeout', :limit, true),
       current_setting('search_path') AS path, current_setting('role') AS role
""")
_END = sa.text("""
SELECT current_setting('lading.block', true) = :token, set_config('search_path', :path, true),
       set_config('role', :role, true), set_config('statement_timeout', :limit, true),
       set_config('lock_timeout', :limit, true)
""")
_OUR_LIMIT = str(int(STATEMENT_TIMEOUT.total_seconds() * 1000))


class Work:
    """One block's transaction, without a word about how its session is reached."""

    def __init__(self, tie: Tie, name: str) -> None:
        self.tie, self.name = tie, name
        self.scope = Scope(name, defers=True)
        self._is_committed = False
        self._token = str(uuid4())
        self._path = self._role = ""

    def begin(self, session: Session) -> None:
        """The transaction is open; no statement in it lasts longer than the attempt may."""
        try:
            row = session.connection().execute(
                _BEGIN, {"token": self._token, "limit": self._limit()}
            )
            (_, _, self._path, self._role) = row.one()
        except BaseException:
            close(session)
            raise

    def complete(self, session: Session) -> list[Moved]:
        """Everything but the commit is done. LeaseLost: the attempt may not."""
        session.flush()
        connection = session.connection()
        binds = {"token": self._token, "path": self._path, "role": self._role, "limit": _OUR_LIMIT}
        if connection.execute(_END, binds).one()[0] is not True:
            raise RuntimeError(
                f"the block of transaction {self.name!r} has ended its transaction by itself:"
                " what it did before that stands, what came after it is undone"
            )
        moved = [self.tie.record_step(connection, self.name, None)]
        for child in self.scope.waiting:
            moved += self.tie.record_child(connection, child)[1]
        for event in self.scope.events:
            publishing.record(connection, self.tie.claim, event)
        return moved

    def stands(self) -> bool:
        """Whether the block is committed, by this attempt or another; waits for PostgreSQL."""
        return self.tie.steps.ask(self.name) is not MISSING

    def done(self, moved: Sequence[Moved]) -> None:
        """It is committed."""
        self._is_committed = True
        self.tie.steps.add(self.name, None)
        self.tie.tell(moved)
        if self.scope.events:
            self.tie.tell_published()

    def give_up(self) -> None:
        """It is over; if it was rolled back, the attempt may make it again."""
        if not self._is_committed:
            self.tie.steps.names.leave(self.name)

    def _limit(self) -> str:
        """Milliseconds until the attempt's hard limit; 0 is none."""
        link = self.tie.link
        if link.limit is None:
            return "0"
        return str(max(int((link.limit.total_seconds() - link.age) * 1000), 1))


class SyncTransaction(Block):
    """For `def` handlers."""

    def __init__(self, tie: Tie, name: str) -> None:
        self._tie, self._work = tie, Work(tie, name)

    def _is_done(self) -> bool:
        with self._tie.link.shielded():
            return self._tie.find_transaction(self._work.name)

    def _open(self) -> BlockSession:
        self._session = session = self._tie.runtime.sessions.open()
        try:
            with self._tie.link.shielded():
                self._tie.runtime.patiently(partial(self._work.begin, session))
        except BaseException:
            self._give_up()
            raise
        self._within = within(self._work.scope)
        self._within.__enter__()
        return session

    def _close(self, error: BaseException | None) -> None:
        self._within.__exit__(None, None, None)
        with self._tie.link.shielded():
            try:
                if error is None:
                    self._commit()
            finally:
                self._give_up()

    def _commit(self) -> None:
        moved: list[Moved] = []
        try:
            moved = self._work.complete(self._session)
            commit(self._session)
        except LeaseLost:
            self._tie.lose()
        except DBAPIError:  # also when the answer to the commit is lost
            close(self._session)
            if not self._work.stands():
                raise
        self._work.done(moved)

    def _give_up(self) -> None:
        """The session is closed; what was not committed is undone."""
        self._work.give_up()
        close(self._session)


class AsyncTransaction(AwaitedBlock):
    """For `async def` handlers: the same, in their event loop."""

    def __init__(self, tie: Tie, name: str) -> None:
        self._tie, self._work = tie, Work(tie, name)

    async def _is_done(self) -> bool:
        return await asyncio.to_thread(self._tie.find_transaction, self._work.name)

    async def _open(self) -> AsyncSession:
        self._session = self._tie.runtime.sessions.open_async()
        try:
            await self._begin()
        except BaseException:
            await self._give_up()
            raise
        self._within = within(self._work.scope)
        self._within.__enter__()
        return self._session

    async def _begin(self) -> None:
        """As patiently as Runtime.patiently, without holding the loop."""
        runtime = self._tie.runtime
        end = time.monotonic() + runtime.settings.lease_seconds
        while True:
            try:
                with translated():
                    return await self._session.run_sync(self._work.begin)
            except DatabaseUnavailable:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(FIRST_PAUSE)
            await asyncio.to_thread(runtime.ask, lambda c: c.execute(sa.select(1)))

    async def _close(self, error: BaseException | None) -> None:
        self._within.__exit__(None, None, None)
        try:
            if error is None:
                await self._commit()
        finally:
            await self._give_up()

    async def _commit(self) -> None:
        moved: list[Moved] = []
        try:
            moved = await self._session.run_sync(self._work.complete)
            await self._session.run_sync(commit)
        except LeaseLost:
            self._tie.lose()
        except DBAPIError:  # see SyncTransaction
            await self._session.run_sync(close)
            if not await asyncio.to_thread(self._work.stands):
                raise
        self._work.done(moved)

    async def _give_up(self) -> None:
        """See SyncTransaction; a handler that is cancelled meanwhile does not wait for it."""
        self._work.give_up()
        await asyncio.shield(asyncio.ensure_future(self._session.run_sync(close)))
