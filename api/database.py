"""How requests reach PostgreSQL: a synchronous function, a thread, a connection, nothing longer.

No connection is held while a request waits or streams: each call takes one and gives it back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from jobs.database import autocommit, is_blocked, make_engine, translated
from jobs.errors import DatabaseUnavailable
from jobs.settings import Settings
from jobs.trail.record import Actor, Deed, record

CONNECTIONS = 10  # a process; more would only wait for the same two or four cores
_CANCELED = "57014"  # SQLSTATE: statement_timeout

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One API process's pool of autocommit connections, and as many threads to use them in."""

    def __init__(self, settings: Settings, size: int = CONNECTIONS) -> None:
        self._pool = make_engine(settings, name="api", size=size)
        self._engine = autocommit(self._pool)
        self._threads = anyio.CapacityLimiter(size)

    async def run(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What `function` returns, called with a connection whose statements each commit.

        DatabaseUnavailable, also when a row was locked for longer than lock_timeout or a statement
        took longer than statement_timeout: then the same call may succeed a little later.
        """

        def call(connection: Connection) -> T:
            return function(connection, *args, **kwargs)

        return await to_thread.run_sync(self._call, call, limiter=self._threads)

    async def transact(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, but all that `function` does is one transaction, which is then committed."""

        def call(connection: Connection) -> T:
            return function(connection, *args, **kwargs)

        return await to_thread.run_sync(self._call_whole, call, limiter=self._threads)

    async def change(
        self,
        actor: Actor,
        deed: Deed | Callable[[T], Deed | None],
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, but in one transaction, together with the entry in the audit trail.

        The deed may be made of the result; None: nothing has changed, nothing is recorded.
        """

        def call(connection: Connection) -> T:
            result = function(connection, *args, **kwargs)
            done = deed if isinstance(deed, Deed) else deed(result)
            if done is not None:
                record(connection, actor, done)
            return result

        return await to_thread.run_sync(self._call_whole, call, limiter=self._threads)

    def close(self) -> None:
        """Its connections are closed."""
        self._pool.dispose()

    def _call(self, call: Callable[[Connection], T]) -> T:
        with _translated(), self._engine.connect() as connection:
            return call(connection)

    def _call_whole(self, call: Callable[[Connection], T]) -> T:
        with _translated(), self._pool.begin() as connection:
            return call(connection)


@contextmanager
def _translated() -> Iterator[None]:
    with translated():
        try:
            yield
        except OperationalError as error:
            if is_blocked(error) or getattr(error.orig, "sqlstate", None) == _CANCELED:
                raise DatabaseUnavailable from error
            raise
