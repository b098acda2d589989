"""Statements for who cannot wait: they are sent, and what has come of their answers is read.

For an event loop, which hears from the socket when there is something to read. See PostgreSQL's
manual on libpq, "Asynchronous Command Processing".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq
from sqlalchemy import Connection

from jobs.direct import Direct

_FINE = pq.ExecStatus.TUPLES_OK
_UNPREPARED = {b"26000", b"0A000"}  # the statement is not there (any more), or its plan is not good


class Unanswered(Exception):
    """It was refused, or nobody knows what became of it: then the connection is lost."""


class Asking:
    """One statement at a time, each a transaction of its own. For one thread alone."""

    def __init__(self, connection: Connection, statements: Iterable[Direct]) -> None:
        """They are prepared, which blocks. The connection, of an autocommit engine, is ours now.

        What SQLAlchemy raises.
        """
        self._connection = connection
        for direct in statements:
            direct.prepare(connection)
        raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        self._libpq = raw.pgconn
        self._libpq.nonblocking = 1
        self.socket = raw.pgconn.socket  #: its number; `hear` when there is something to read
        self._asked: Direct | None = None
        self._is_unprepared = False
        self._result: pq.abc.PGresult | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._is_unprepared or self._libpq.status != pq.ConnStatus.OK

    def ask(self, direct: Direct, binds: Mapping[str, Any]) -> bool:
        """It is on its way; False: as much of it as fits, the rest by `push`. Unanswered."""
        self._asked = direct
        try:
            direct.send(self._libpq, binds)
        except psycopg.Error as error:
            raise Unanswered(str(error)) from error
        return self.push()

    def push(self) -> bool:
        """All of it is on its way; False: call again when the socket takes more. Unanswered."""
        try:
            return self._libpq.flush() == 0
        except psycopg.Error as error:
            raise Unanswered(str(error)) from error

    def hear(self) -> Sequence[tuple[Any, ...]] | None:
        """The rows of the answer, which is committed; None: it is not all here. Unanswered."""
        libpq = self._libpq
        try:
            libpq.consume_input()
            while not libpq.is_busy():
                result = libpq.get_result()
                if result is None:  # PostgreSQL is ready for the next one: it has committed
                    return self._answer()
                self._result = result
        except psycopg.Error as error:
            raise Unanswered(str(error)) from error
        return None

    def close(self) -> None:
        """The connection is closed; what it was asked may be done nevertheless."""
        self._connection.invalidate()
        self._connection.close()

    def _answer(self) -> Sequence[tuple[Any, ...]] | None:
        asked, result = self._asked, self._result
        self._asked = self._result = None
        if self.is_lost:
            raise Unanswered("the connection is lost")
        if asked is None or result is None:
            return None
        if result.status != _FINE:
            self._is_unprepared = result.error_field(pq.DiagnosticField.SQLSTATE) in _UNPREPARED
            raise Unanswered(result.get_error_message())
        return asked.read(result)
