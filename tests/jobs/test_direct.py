"""Statements that go straight to libpq behave like SQLAlchemy's."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, OperationalError

from jobs.database import autocommit
from jobs.direct import Direct, together

TYPES = {
    "number": sa.Integer,
    "large": sa.BigInteger,
    "share": sa.Float,
    "text": sa.Text,
    "key": sa.Uuid,
    "document": JSONB,
}
# What is given comes back; a moment is given as the time since one.
ECHO = Direct(
    "echo",
    sa.select(  # type: ignore[arg-type] # of many columns
        sa.literal_column("true", sa.Boolean),
        *(sa.bindparam(name, type_=type_) for name, type_ in TYPES.items()),
        sa.type_coerce(
            sa.literal_column("timestamptz '2026-01-01 00:00+00'")
            + sa.bindparam("since", type_=sa.Interval),
            sa.DateTime,
        ),
    ),
)
SLEEP = Direct(
    "sleep", sa.select(sa.cast(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float)), sa.Text))
)
ARRAYS = Direct(
    "arrays",
    sa.select(
        sa.func.unnest(sa.bindparam("texts", type_=sa.ARRAY(sa.Text)), type_=sa.Text),
        sa.func.unnest(sa.bindparam("documents", type_=sa.ARRAY(JSONB)), type_=JSONB),
    ),
)
GIVEN = {
    "number": -7,
    "large": 2**40,
    "share": 0.1,
    "text": "Größe",
    "key": uuid4(),
    "document": {"a": [1, None, "ü"]},
    "since": timedelta(microseconds=1),
}
EXPECTED = (True, *[*GIVEN.values()][:-1], datetime(2026, 1, 1, 0, 0, 0, 1, UTC))


@pytest.fixture
def line(engine: Engine) -> Iterator[Connection]:
    with autocommit(engine).connect() as connection:
        yield connection


def test_values_go_and_come_as_they_are(line: Connection) -> None:
    for _ in range(3):  # at the second time it is prepared
        assert ECHO.first(line, GIVEN) == EXPECTED
    empty = ECHO.first(line, dict.fromkeys(GIVEN))
    assert empty == (True, *[None] * (len(EXPECTED) - 1))


def test_arrays_are_read_element_by_element(line: Connection) -> None:
    texts = ["", "NULL", None, 'a"b\\', "{c,d}", "ü\n"]
    documents = [{"a": 'q"\\'}, [], 7, "NULL", {"b": [None, "{}"]}, None]
    for _ in range(2):
        found = ARRAYS.all(line, {"texts": texts, "documents": documents})
        assert found == [*zip(texts, documents, strict=True)]
    assert not ARRAYS.all(line, {"texts": [], "documents": []})


def test_what_has_been_forgotten_is_prepared_anew(line: Connection) -> None:
    for _ in range(2):
        ECHO.first(line, GIVEN)
    line.exec_driver_sql("DEALLOCATE ALL")
    for _ in range(3):
        assert ECHO.first(line, GIVEN) == EXPECTED


def test_more_than_a_socket_holds_comes_through(line: Connection) -> None:
    long = "x" * 20_000_000
    found = ECHO.first(line, {**GIVEN, "text": long})
    assert found is not None
    assert found[4] == long


def test_a_refusal_is_sqlalchemys_and_leaves_the_connection_as_it_is(line: Connection) -> None:
    line.exec_driver_sql("SET statement_timeout = 20")
    for _ in range(3):
        with pytest.raises(DBAPIError, match="canceling statement due to statement timeout"):
            SLEEP.first(line, {"seconds": 60.0})
    line.exec_driver_sql("SET statement_timeout = 0")
    assert not line.invalidated
    assert ECHO.first(line, GIVEN) == EXPECTED


def test_a_connection_that_is_lost_is_invalidated(line: Connection, engine: Engine) -> None:
    pid = line.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with engine.begin() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    with pytest.raises(OperationalError) as caught:
        ECHO.first(line, GIVEN)
    assert caught.value.connection_invalidated
    assert line.invalidated


def test_it_is_part_of_the_transaction_that_it_begins(engine: Engine) -> None:
    ours = Direct("ours", sa.select(sa.cast(sa.func.pg_current_xact_id(), sa.Text)))
    now = sa.select(sa.cast(sa.func.pg_current_xact_id(), sa.Text))
    with engine.connect() as connection:
        first = [ours.first(connection, {}) for _ in range(2)]
        assert connection.in_transaction()
        assert first == [connection.execute(now).one()] * 2
        connection.rollback()
        assert ours.first(connection, {}) not in first


class Enough(Exception):
    """Raised by a signal's handler."""


@contextmanager
def raising(number: signal.Signals) -> Iterator[None]:
    def strike(_signal: int, _frame: FrameType | None) -> None:
        raise Enough

    previous = signal.signal(number, strike)
    try:
        yield
    finally:
        signal.signal(number, previous)


def test_a_signal_ends_the_wait_and_the_connection(line: Connection) -> None:
    with raising(signal.SIGUSR2):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with pytest.raises(Enough):
            SLEEP.first(line, {"seconds": 60.0})
    assert line.invalidated


def test_a_glance_is_no_part_of_a_transaction(engine: Engine) -> None:
    ours = Direct("ours", sa.select(sa.cast(sa.func.pg_current_xact_id(), sa.Text)))
    with engine.connect() as connection:
        seen = [ours.glance(connection) for _ in range(3)]
        assert len({*seen}) == 3
        assert not connection.in_transaction()
        assert ours.first(connection, {}) not in seen


NOTED = Direct(
    "noted",
    sa.text("INSERT INTO note VALUES (:number) RETURNING number")
    .bindparams(sa.bindparam("number", type_=sa.Integer))
    .columns(number=sa.Integer),
)
FOUND = Direct("found", sa.text("SELECT number FROM note").columns(number=sa.Integer))


@pytest.fixture
def notes(engine: Engine) -> Iterator[Connection]:
    """A connection that is in no transaction, and has a table of its own."""
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS note")  # the pool's connections are few
        connection.exec_driver_sql("CREATE TEMPORARY TABLE note (number int CHECK (number < 9))")
        connection.commit()
        yield connection


def test_several_are_one_transaction_that_commits(notes: Connection, engine: Engine) -> None:
    for number in range(3):
        noted, found = together(notes, [(NOTED, {"number": number}), (FOUND, {})])
        assert noted == [(number,)]
        assert found == [(each,) for each in range(number + 1)]
        assert not notes.in_transaction()
    notes.rollback()
    assert together(notes, [(FOUND, {})]) == [[(0,), (1,), (2,)]]


def test_of_several_all_or_none_are_done(notes: Connection) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError, match="violates check constraint"):
            together(notes, [(NOTED, {"number": 1}), (NOTED, {"number": 10}), (FOUND, {})])
        assert not notes.invalidated
        assert together(notes, [(FOUND, {})]) == [[]]


def test_several_are_prepared_anew_when_they_have_been_forgotten(notes: Connection) -> None:
    for number in range(2):
        together(notes, [(NOTED, {"number": number}), (FOUND, {})])
        notes.exec_driver_sql("DEALLOCATE ALL")
        notes.commit()
    assert together(notes, [(FOUND, {})]) == [[(0,), (1,)]]


def test_several_are_a_part_of_a_transaction_that_has_begun(notes: Connection) -> None:
    with notes.begin() as transaction:
        together(notes, [(NOTED, {"number": 1}), (FOUND, {})])
        transaction.rollback()
    assert together(notes, [(FOUND, {})]) == [[]]


def test_a_connection_that_is_lost_under_several_is_invalidated(
    notes: Connection, engine: Engine
) -> None:
    pid = notes.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    notes.commit()
    together(notes, [(FOUND, {})])
    with engine.begin() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    with pytest.raises(OperationalError) as caught:
        together(notes, [(NOTED, {"number": 1}), (FOUND, {})])
    assert caught.value.connection_invalidated
    assert notes.invalidated


def test_a_signal_ends_the_wait_for_several_and_the_connection(notes: Connection) -> None:
    with raising(signal.SIGUSR2):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with pytest.raises(Enough):
            together(notes, [(SLEEP, {"seconds": 60.0}), (FOUND, {})])
    assert notes.invalidated
