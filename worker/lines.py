"""Lines: connections that stay open between single statements.

A pool would ask each connection whether it lives, and switch its mode twice, around every
statement: four times the work of the statement itself. A line that turns out to be dead is dropped
with its idle fellows, and the call is tried again by whoever made it (worker/patience.py).
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs.database import STATEMENT_TIMEOUT, autocommit


class Lines:
    """At most `size` of them; each statement is a transaction of its own. Threads may share it."""

    def __init__(self, engine: Engine, size: int, within: timedelta = STATEMENT_TIMEOUT) -> None:
        self._engine, self._within = autocommit(engine), within.total_seconds()
        self._idle = deque[Connection]()
        self._left = threading.Semaphore(size)

    @contextmanager
    def line(self) -> Iterator[Connection]:
        """A line of the caller's own for a moment. PoolTimeout when none becomes free."""
        if not self._left.acquire(timeout=self._within):
            raise PoolTimeout
        try:
            with self._kept() as connection:
                yield connection
        finally:
            self._left.release()

    @contextmanager
    def _kept(self) -> Iterator[Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._engine.connect()
        try:
            yield connection
        except SQLAlchemyError:
            if connection.invalidated:
                self._drop_idle()
            connection.close()
            raise
        except BaseException:
            if connection.invalidated:  # it was interrupted within the statement
                connection.close()
            else:  # the statement was answered; the answer was not liked
                self._idle.append(connection)
            raise
        self._idle.append(connection)

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().invalidate()
