"""Statements that go straight to libpq: prepared once a connection, answered in binary.

For the few that are sent with every attempt: SQLAlchemy's and the driver's ways to a cursor and
back cost ten times what libpq does. Errors and transactions are SQLAlchemy's nevertheless.
See PostgreSQL's manual on libpq, "Asynchronous Command Processing".
"""

import json
import re
import select
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg import pq
from psycopg.errors import InvalidSqlStatementName, error_from_result
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlmodel import AutoString

from jobs import documents

T = TypeVar("T")

_DIALECT: Any = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_FINE = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_BINARY = pq.Format.BINARY
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's
_MICROSECOND = timedelta(microseconds=1)
_POLLER = "direct.poller"  # in the connection's info
_DOUBLE = struct.Struct("!d")
_ESCAPED = re.compile(rb'["\\]')


class Direct:
    """One statement, for all connections of a process. Threads may share it.

    All its parameters have names, and are given by them; NULL is None. See `constant` for others.
    """

    def __init__(self, name: str, statement: sa.Select[Any] | sa.TextualSelect) -> None:
        self._name, self._statement = name.encode(), statement

    def first(self, connection: Connection, binds: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Its first row. What SQLAlchemy raises; of a broken connection, it is invalidated.

        A part of the transaction that `connection` is in, or begins, unless it commits by itself.
        """
        return self._first(connection, binds, begins=True)

    def glance(
        self, connection: Connection, binds: Mapping[str, Any] | None = None
    ) -> tuple[Any, ...]:
        """Its row, where no transaction has begun: for who only then knows whether to begin one.

        A read of one row. Raises the same.
        """
        row = self._first(connection, binds or {}, begins=False)
        assert row is not None
        return row

    def all(self, connection: Connection, binds: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        """All of its rows. What SQLAlchemy raises; of a broken connection, it is invalidated.

        In a transaction it takes the driver's way, which prepares statements there, too.
        """
        raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        if not raw.autocommit:
            return [tuple(row) for row in connection.execute(self._statement, binds)]
        return self.read(self._result(connection, binds, begins=False))

    def prepare(self, connection: Connection) -> None:
        """It is prepared there, outside of a transaction. What SQLAlchemy raises."""
        pooled = connection.connection
        raw: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        try:
            self.send_prepare(raw.pgconn)
            _receive(raw.pgconn, _poller_of(raw.pgconn, pooled.info))
        except psycopg.Error as error:
            raise self.translated(connection, raw, error) from error

    def send_prepare(self, libpq: pq.abc.PGconn) -> None:
        """It is on its way to be prepared, in pipeline mode."""
        libpq.send_prepare(self._name, self._text, self._types)

    def send(self, libpq: pq.abc.PGconn, binds: Mapping[str, Any]) -> None:
        """It is on its way, as it was prepared."""
        libpq.send_query_prepared(self._name, self._values(binds), None, _BINARY)

    def read(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """The rows that it has answered."""
        return [self._read(result, row) for row in range(result.ntuples)]

    def _first(
        self, connection: Connection, binds: Mapping[str, Any], *, begins: bool
    ) -> tuple[Any, ...] | None:
        result = self._result(connection, binds, begins=begins)
        return self._read(result, 0) if result.ntuples else None

    def _read(self, result: pq.abc.PGresult, row: int) -> tuple[Any, ...]:
        read = result.get_value
        found = [(load, read(row, number)) for number, load in enumerate(self._loads)]
        return tuple([None if value is None else load(value) for load, value in found])

    def _result(
        self, connection: Connection, binds: Mapping[str, Any], *, begins: bool
    ) -> pq.abc.PGresult:
        pooled = connection.connection
        raw: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        values = self._values(binds)
        try:
            if begins and not raw.autocommit:
                _begin(connection, raw.pgconn)
            return self._answer(raw, pooled.info, values)
        except psycopg.Error as error:
            raise self.translated(connection, raw, error) from error
        except BaseException:  # it is interrupted: the answer may be on its way
            connection.invalidate()
            raise

    def _values(self, binds: Mapping[str, Any]) -> list[bytes | None]:
        return [None if binds[name] is None else dump(binds[name]) for name, dump in self._dumps]

    def _answer(
        self, raw: psycopg.Connection[Any], info: dict[Any, Any], values: list[bytes | None]
    ) -> pq.abc.PGresult:
        """Prepared at its second use, where nothing is in a transaction that an error would end."""
        libpq = raw.pgconn
        poller = _poller_of(libpq, info)
        is_prepared = info.get(self)
        if is_prepared is None or libpq.transaction_status != pq.TransactionStatus.IDLE:
            info.setdefault(self, False)
            libpq.send_query_params(self._text, values, self._types, None, _BINARY)
            return _receive(libpq, poller)
        if not is_prepared:
            libpq.send_prepare(self._name, self._text, self._types)
            _receive(libpq, poller)
            info[self] = True
        try:
            libpq.send_query_prepared(self._name, values, None, _BINARY)
            return _receive(libpq, poller)
        except InvalidSqlStatementName:  # the driver has had all of them forgotten
            del info[self]
            return self._answer(raw, info, values)

    def translated(
        self, connection: Connection, raw: psycopg.Connection[Any], error: psycopg.Error
    ) -> DBAPIError:
        """As SQLAlchemy raises it."""
        is_lost = raw.pgconn.status != pq.ConnStatus.OK
        if is_lost:
            connection.invalidate(error)
        made = DBAPIError.instance(
            self._name.decode(),
            None,
            error,
            psycopg.Error,
            connection_invalidated=is_lost,
            dialect=connection.dialect,
        )
        assert isinstance(made, DBAPIError)
        return made

    @cached_property
    def _compiled(self) -> Any:
        return self._statement.compile(dialect=_DIALECT)

    @cached_property
    def text(self) -> str:
        """As PostgreSQL gets it."""
        return str(self._compiled.string)

    @cached_property
    def _text(self) -> bytes:
        return self.text.encode()

    @cached_property
    def _parameters(self) -> list[tuple[str, Any]]:
        compiled = self._compiled
        return [(name, compiled.binds[name].type) for name in compiled.positiontup or []]

    @cached_property
    def _types(self) -> list[int]:
        return [psycopg.postgres.types.get_oid(_dumper(type_)[0]) for _, type_ in self._parameters]

    @cached_property
    def _dumps(self) -> list[tuple[str, Callable[[Any], bytes]]]:
        return [(name, _dumper(type_)[1]) for name, type_ in self._parameters]

    @cached_property
    def _loads(self) -> list[Callable[[bytes], Any]]:
        return [_loader(column.type) for column in self._statement.selected_columns]


def together(
    connection: Connection, asked: Sequence[tuple[Direct, Mapping[str, Any]]]
) -> list[Sequence[tuple[Any, ...]]]:
    """Each one's rows. They are a transaction, which commits, and one round trip.

    A statement sees what others have committed before it begins, as always. What SQLAlchemy raises:
    nothing is done. Of a broken connection nobody knows; it is invalidated. In a transaction of the
    `connection` they are a part of that one, and go the driver's way.
    """
    if connection.in_transaction():
        return [direct.all(connection, binds) for direct, binds in asked]
    pooled = connection.connection
    raw: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
    try:
        try:
            return _pipelined(raw, pooled.info, asked)
        except InvalidSqlStatementName:  # the driver has had all of them forgotten
            for direct, _ in asked:
                pooled.info.pop(direct, None)
            return _pipelined(raw, pooled.info, asked)
    except psycopg.Error as error:
        made = asked[0][0].translated(connection, raw, error)
        if raw.pgconn.pipeline_status != pq.PipelineStatus.OFF:  # whatever may still come
            connection.invalidate()
        raise made from error
    except BaseException:  # it is interrupted: the answers may be on their way
        connection.invalidate()
        raise


def _pipelined(
    raw: psycopg.Connection[Any],
    info: dict[Any, Any],
    asked: Sequence[tuple[Direct, Mapping[str, Any]]],
) -> list[Sequence[tuple[Any, ...]]]:
    """What stands before a sync is one transaction (PostgreSQL's manual, "Pipeline Mode")."""
    libpq = raw.pgconn
    awaited: list[tuple[Direct, bool]] = []  # whose answer, and whether it is that to a prepare
    libpq.enter_pipeline_mode()
    for direct, binds in asked:
        if not info.get(direct) and (direct, True) not in awaited:
            direct.send_prepare(libpq)
            awaited.append((direct, True))
        direct.send(libpq, binds)
        awaited.append((direct, False))
    libpq.pipeline_sync()
    answers = [*zip(awaited, _receive_all(libpq, _poller_of(libpq, info)), strict=True)]
    libpq.exit_pipeline_mode()
    for (direct, is_prepare), result in answers:
        if result.status not in _FINE:
            raise error_from_result(result)
        if is_prepare:
            info[direct] = True
    return [direct.read(result) for (direct, is_prepare), result in answers if not is_prepare]


def flags(name: str, sql: str, count: int) -> Direct:
    """The statement that says so many times whether something is so."""
    columns = [sa.column(f"flag_{number}", sa.Boolean) for number in range(count)]
    return Direct(name, sa.text(sql).columns(*columns))


def constant(element: sa.BindParameter[Any]) -> str:
    """The value of a parameter without a name, as SQL."""
    if isinstance(element.type, sa.JSON) and element.value is not None:
        return f"'{documents.encode(element.value)}'::jsonb"  # of ours: there is no quote in it
    return str(element.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))


def _begin(connection: Connection, libpq: pq.abc.PGconn) -> None:
    """As SQLAlchemy and the driver begin a transaction with its first statement."""
    if not connection.in_transaction():
        connection.begin()
    if libpq.transaction_status == pq.TransactionStatus.IDLE:
        libpq.exec_(b"BEGIN")


def _poller_of(libpq: pq.abc.PGconn, info: dict[Any, Any]) -> select.poll:
    poller: select.poll | None = info.get(_POLLER)
    if poller is None:
        poller = info[_POLLER] = select.poll()
        poller.register(libpq.socket, select.POLLIN)
    return poller


def _receive(libpq: pq.abc.PGconn, poller: select.poll) -> pq.abc.PGresult:
    """The answer to what has been sent. Signals are heeded while it is waited for."""
    if libpq.flush():
        _push(libpq)
    last = None
    while (result := _next_result(libpq, poller)) is not None:
        last = result
    assert last is not None
    if last.status not in _FINE:
        raise error_from_result(last)
    return last


def _receive_all(libpq: pq.abc.PGconn, poller: select.poll) -> Sequence[pq.abc.PGresult]:
    """An answer for each message, up to that to the sync; None stands behind each."""
    if libpq.flush():
        _push(libpq)
    results = []
    while (result := _next_result(libpq, poller)) is None or result.status != _SYNC:
        if result is not None:
            results.append(result)
        elif libpq.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("the connection is lost")
    return results


def _next_result(libpq: pq.abc.PGconn, poller: select.poll) -> pq.abc.PGresult | None:
    while libpq.is_busy():
        poller.poll()
        libpq.consume_input()
    return libpq.get_result()


def _push(libpq: pq.abc.PGconn) -> None:
    """What did not fit into the socket's buffer is sent. The server may have to be heard first."""
    both = select.poll()
    both.register(libpq.socket, select.POLLIN | select.POLLOUT)
    while libpq.flush():
        ((_, what),) = both.poll()
        if what & select.POLLIN:
            libpq.consume_input()


def _dumper(type_: sa.types.TypeEngine[Any]) -> tuple[str, Callable[[Any], bytes]]:
    """What PostgreSQL calls that type, and how its values are written as text."""
    if isinstance(type_, sa.ARRAY):
        name, dump = _look_up(_DUMPERS, type_.item_type)
        return f"{name}[]", partial(_bare_array if dump is _plain else _array, dump)
    return _look_up(_DUMPERS, type_)


def _loader(type_: sa.types.TypeEngine[Any]) -> Callable[[bytes], Any]:
    """How a value of that type is read from PostgreSQL's binary form."""
    return _look_up(_LOADERS, type_)


def _look_up(forms: Mapping[type[Any], T], type_: sa.types.TypeEngine[Any]) -> T:
    if isinstance(type_, AutoString):
        type_ = sa.Text()
    return next(form for known, form in forms.items() if isinstance(type_, known))


def _plain(value: Any) -> bytes:
    return str(value).encode()


def _bare_array(dump: Callable[[Any], bytes], values: Iterable[Any]) -> bytes:
    """The same of what needs no quotes."""
    return b"{%s}" % b",".join([b"NULL" if value is None else dump(value) for value in values])


def _array(dump: Callable[[Any], bytes], values: Iterable[Any]) -> bytes:
    """PostgreSQL's manual, "Array Input and Output Syntax"; one dimension."""
    return b"{%s}" % b",".join(
        b"NULL" if value is None else b'"%s"' % _ESCAPED.sub(rb"\\\g<0>", dump(value))
        for value in values
    )


_DUMPERS: dict[type[sa.types.TypeEngine[Any]], tuple[str, Callable[[Any], bytes]]] = {
    sa.JSON: ("jsonb", lambda value: documents.encode(value).encode()),
    sa.Interval: ("interval", lambda value: b"%d microseconds" % (value // _MICROSECOND)),
    sa.Uuid: ("uuid", _plain),
    sa.BigInteger: ("int8", _plain),
    sa.Integer: ("int4", _plain),
    sa.Float: ("float8", _plain),
    sa.String: ("text", str.encode),
}
_LOADERS: dict[type[sa.types.TypeEngine[Any]], Callable[[bytes], Any]] = {
    sa.JSON: lambda value: json.loads(value[1:].decode()),  # behind the number of the format
    sa.Uuid: lambda value: UUID(bytes=value),
    sa.Boolean: lambda value: value == b"\1",
    sa.Integer: lambda value: int.from_bytes(value, signed=True),
    sa.Float: lambda value: _DOUBLE.unpack(value)[0],
    sa.DateTime: lambda value: _EPOCH + timedelta(microseconds=int.from_bytes(value, signed=True)),
    sa.String: lambda value: value.decode(),
}
