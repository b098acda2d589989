"""Connections for the blocks of handlers, apart from those that claims and reports need.

A block is the handler's own work, so the short time-outs of control statements are not for it. A
statement may take as long as the attempt may. Between two statements it may stand still for as long
as a worker that cannot reach PostgreSQL goes on: so a frozen attempt holds no locks any more when
the next one begins.
"""

from functools import cached_property

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobs import database, documents
from jobs.settings import Settings
from lading.sessions import AsyncBlockSession, BlockSession, open_session


class Sessions:
    """One process's, made after its fork; connections are made when the first block needs one.

    At most 2 × `size` blocks at a time, of either kind of handler; half of them keep theirs.
    """

    def __init__(self, settings: Settings, size: int) -> None:
        fence = int(settings.self_fence.total_seconds() * 1000)
        arguments = database.connect_args("block")
        arguments["options"] = (
            f"{arguments['options']} -c statement_timeout=0 -c lock_timeout=0"
            f" -c idle_in_transaction_session_timeout={fence}"
        )
        self._url = settings.sqlalchemy_url
        self._arguments = {
            "pool_size": size,
            "max_overflow": size,
            "pool_timeout": database.STATEMENT_TIMEOUT.total_seconds(),
            "pool_pre_ping": True,
            "json_serializer": documents.encode,
            "connect_args": arguments,
        }
        self._engine = create_engine(self._url, **self._arguments)

    @cached_property
    def _async_engine(self) -> AsyncEngine:
        """It belongs to the process's one event loop."""
        return create_async_engine(self._url, **self._arguments)

    def open(self) -> BlockSession:
        """For a `def` handler."""
        return open_session(self._engine)

    def open_async(self) -> AsyncBlockSession:
        """For an `async def` handler."""
        return AsyncBlockSession(self._async_engine)

    def dispose(self) -> None:
        """Idle connections of `def` handlers are closed; those of the event loop end with it."""
        self._engine.dispose()
