"""Two moves in one round trip and one commit: an attempt's success, and the claim of the next one.

For lists of quick attempts, where the way to PostgreSQL and the commit cost more than the work. The
two statements are sent together in psycopg's pipeline mode, where they are one transaction: both
are done or neither (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html). Whose job
has been taken away meanwhile still claims the next one: a move that finds no row is no error.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection, Dialect

from jobs.attempts import Usage
from jobs.lifecycle.reports import start_binds, success_binds
from jobs.lifecycle.statements import SINGLE, START, Claim, Moved
from jobs.states import JobState, Move


class Success(NamedTuple):
    """An attempt that brought a result."""

    job_id: UUID
    attempt: int
    result: Any  #: JSON
    usage: Usage


class Next(NamedTuple):
    """An attempt to be claimed."""

    job_id: UUID
    attempt: int
    worker: UUID
    lease: timedelta


def succeed_and_start(
    connection: Connection, success: Success, following: Next
) -> tuple[Moved | None, Claim | None]:
    """As `succeed` and `start`, where None stands for LeaseLost of either.

    `connection` is in autocommit mode. psycopg.Error: whether both were done is not known, unless
    the server refused them. Locks: the first job's row and then the second's, for one commit.
    """
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    succeed, start = _success(connection.dialect), _start(connection.dialect)
    with raw.pipeline():
        ended = raw.execute(succeed.text, succeed.bound(success_binds(*success)))
        begun = raw.execute(start.text, start.bound(start_binds(*following)))
    moved, claimed = ended.fetchone(), begun.fetchone()
    return (
        None if moved is None else Moved._make(_read(moved)),
        None if claimed is None else Claim._make(_read(claimed)),
    )


class _Compiled:
    """A statement as the driver wants it, compiled once."""

    def __init__(self, statement: sa.Select[Any], dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect)
        self.text: Any = self._compiled.string
        self._processors = {
            name: processor
            for name, parameter in self._compiled.binds.items()
            if (processor := parameter.type.dialect_impl(dialect).bind_processor(dialect))
        }
        self._constants = self._processed(self._compiled.params)

    def bound(self, binds: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for these values."""
        return self._constants | self._processed(binds)

    def _processed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        processors = self._processors
        return {
            name: processors[name](value) if name in processors else value
            for name, value in values.items()
        }


@lru_cache(maxsize=4)
def _success(dialect: Dialect) -> _Compiled:
    return _Compiled(SINGLE[Move.SUCCEED], dialect)


@lru_cache(maxsize=4)
def _start(dialect: Dialect) -> _Compiled:
    return _Compiled(START, dialect)


_STATE = Moved._fields.index("state")


def _read(row: tuple[Any, ...]) -> list[Any]:
    values = [*row]
    values[_STATE] = JobState(values[_STATE])
    return values
