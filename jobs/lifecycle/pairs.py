"""Two moves in one statement: an attempt's success, and the claim of the next one.

For lists of quick attempts, where the way to PostgreSQL and the commit cost more than the work.
Being one statement, both are done or neither. Whose job has been taken away meanwhile still claims
the next one: a move that finds no row is no error.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.visitors import replacement_traverse

from jobs import documents
from jobs.attempts import Usage
from jobs.lifecycle.reports import start_binds, success_binds
from jobs.lifecycle.statements import CLAIMED, ONE, Claim, Moved, statement_of
from jobs.states import JobState, Move

_NEXT = "next_"  # begins the names of the second move's parameters


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
    the server refused them. Locks: both jobs' rows, for one commit.
    """
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    statement = _statement(connection.dialect)
    binds = success_binds(*success)
    binds |= {_NEXT + name: value for name, value in start_binds(*following).items()}
    with psycopg.RawCursor(raw) as cursor:
        row = cursor.execute(statement.text, statement.ordered(binds)).fetchone()
    assert row is not None
    moved, claimed = row[:_MOVED], row[_MOVED:]
    return (
        None if moved[0] is None else Moved._make(_read(moved)),
        None if claimed[0] is None else Claim._make(_read(claimed)),
    )


class _Statement:
    """As the driver wants it, written once: its constants stand in its text."""

    def __init__(self, dialect: Dialect) -> None:
        ended = _part(Move.SUCCEED, "ended", "", dialect)
        begun = _part(Move.START, "begun", _NEXT, dialect)
        either = sa.select(sa.literal_column("1")).subquery("either")
        rows = either.outerjoin(ended, sa.true()).outerjoin(begun, sa.true())
        found = sa.select(*ended.c, *begun.c).select_from(rows)
        numbered: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        compiled = found.compile(dialect=numbered)
        self.text: Any = compiled.string
        self._names: list[str] = compiled.positiontup or []
        self._documents = {
            name for name in self._names if isinstance(compiled.binds[name].type, sa.JSON)
        }

    def ordered(self, binds: Mapping[str, Any]) -> list[Any]:
        """The parameters for these values."""
        documents_, encode = self._documents, documents.encode
        return [
            encode(value) if name in documents_ and value is not None else value
            for name, value in ((name, binds[name]) for name in self._names)
        ]


@lru_cache(maxsize=4)
def _statement(dialect: Dialect) -> _Statement:
    return _Statement(dialect)


def _part(move: Move, name: str, prefix: str, dialect: Dialect) -> sa.Subquery:
    def replaced(element: Any, **_: Any) -> sa.ColumnElement[Any] | None:
        if not isinstance(element, sa.BindParameter):
            return None
        if not element.unique:
            return sa.bindparam(prefix + element.key, type_=element.type)
        return sa.literal_column(_constant(element, dialect), type_=element.type)

    more = CLAIMED if move is Move.START else ()
    statement: Any = statement_of(move, ONE, more=more, name=name)
    whole: sa.Select[Any] = replacement_traverse(statement, {}, replaced)
    return whole.subquery()


def _constant(element: sa.BindParameter[Any], dialect: Dialect) -> str:
    if isinstance(element.type, sa.JSON) and element.value is not None:
        return f"'{documents.encode(element.value)}'"  # of ours: there is no quote in it
    return str(element.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


_MOVED = len(Moved._fields)
_STATE = Moved._fields.index("state")


def _read(row: tuple[Any, ...]) -> list[Any]:
    values = [*row]
    values[_STATE] = JobState(values[_STATE])
    return values
