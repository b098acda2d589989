"""A job or an event from within your own transaction, where your tables share Lading's database.

It commits or vanishes with your work; the SQL functions `lading_enqueue` and `lading_publish` do
it, in one round trip on your own connection. Needs nothing but the driver that you use anyway.
"""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, cast, overload
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from lading.args import as_json
from lading.authoring import find_kind
from lading.durations import as_timedelta

_DURATIONS = ("delay", "timeout", "expires_in")
_PARAMETERS = "(%s, CAST(%s AS jsonb), CAST(%s AS jsonb))"

Binds = tuple[str, str | None, str]


class _Sync(Protocol):
    """A Session or Connection of SQLAlchemy, or a Connection of psycopg."""

    def rollback(self) -> None: ...


class _Async(Protocol):
    """The same for asyncio, or a Connection of asyncpg."""

    def close(self) -> Awaitable[Any]: ...


@overload
def enqueue(
    session: _Sync,
    kind: str | Callable[..., Any],
    args: BaseModel | Mapping[str, Any],
    **options: Any,
) -> UUID: ...
@overload
def enqueue(
    session: _Async,
    kind: str | Callable[..., Any],
    args: BaseModel | Mapping[str, Any],
    **options: Any,
) -> Awaitable[UUID]: ...
def enqueue(
    session: _Sync | _Async,
    kind: str | Callable[..., Any],
    args: BaseModel | Mapping[str, Any],
    **options: Any,
) -> UUID | Awaitable[UUID]:
    """The id of a job that exists once your transaction has committed; nothing is committed here.

    `session` is a Session or Connection of SQLAlchemy, or a psycopg Connection; with an
    AsyncSession, AsyncConnection or an asyncpg Connection the call is awaited. `kind` is a name or
    a function made with `@job`, whose model then checks the args here. `options` are `queue`,
    `priority`, `run_at` (aware), `delay`, `timeout`, `expires_in` (seconds or timedelta),
    `max_attempts`, `labels`, `concurrency`, `idempotency_key`, `project`, `unique` (a mapping of
    `key`, and maybe `scope` and `on_conflict`) and `after` (ids of jobs, those of the same
    transaction included).

    A unique key that another job has raises the driver's error for unique_violation (23505), unless
    its policy is another; one that another transaction is just taking is waited for. What is
    refused otherwise raises the driver's error for invalid_parameter_value (SQLSTATE 22023), and
    ends your transaction as any error does; TypeError or ValueError, and Pydantic's
    ValidationError, come before anything is sent. A kind given by name alone is checked when it
    runs. An idempotency key that another transaction is just using is waited for.
    """
    found = find_kind(kind)
    if found is None and not isinstance(kind, str):
        raise TypeError(f"{kind!r} is neither the name of a kind nor made with @job")
    plain = as_json(args)
    if found is not None:
        found.args_model.model_validate_json(json.dumps(to_jsonable_python(plain)))
    name = found.name if found is not None else cast("str", kind)
    return _send(session, "lading_enqueue", (name, _text(plain), _text(_options(options))))


@overload
def publish(session: _Sync, type_: str, data: Any = None, **options: str | None) -> UUID: ...
@overload
def publish(
    session: _Async, type_: str, data: Any = None, **options: str | None
) -> Awaitable[UUID]: ...
def publish(
    session: _Sync | _Async, type_: str, data: Any = None, **options: str | None
) -> UUID | Awaitable[UUID]:
    """The address of an event that exists once your transaction has committed.

    `session` as for `enqueue`, awaited as there. A dispatcher lets the event meet its triggers
    within a second of the commit, once. `options` are `id`, `source` (a URI reference), `subject`
    and `project`. The same `source` and `id` again is the same event, whose address is given; one
    that another transaction is just publishing is waited for. What is refused raises the driver's
    error for invalid_parameter_value (SQLSTATE 22023).
    """
    given = {name: value for name, value in options.items() if value is not None}
    text = None if data is None else _text(data)
    return _send(session, "lading_publish", (type_, text, _text(given)))


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in options.items() if value is not None}
    for name in _DURATIONS:
        if name in plain:
            duration: float | timedelta = plain[name]
            plain[name] = as_timedelta(duration).total_seconds()
    run_at = plain.get("run_at")
    if isinstance(run_at, datetime) and run_at.utcoffset() is None:
        raise ValueError("run_at needs a time zone")
    return plain


def _text(document: Any) -> str:
    return json.dumps(to_jsonable_python(document), ensure_ascii=False, allow_nan=False)


def _send(session: Any, name: str, binds: Binds) -> UUID | Awaitable[UUID]:
    """By whichever of the libraries is loaded and knows the session."""
    if _is_a(session, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        return _scalar(session, name, binds)
    if _is_a(session, "sqlalchemy.orm", "Session", "scoped_session") or _is_a(
        session, "sqlalchemy", "Connection"
    ):
        return cast("UUID", session.execute(*_statement(name, binds)).scalar_one())
    if _is_a(session, "psycopg", "AsyncConnection", "AsyncCursor"):
        return _first(session, name, binds)
    if _is_a(session, "psycopg", "Connection", "Cursor"):
        return cast("UUID", session.execute(f"SELECT {name}{_PARAMETERS}", binds).fetchone()[0])
    if _is_a(session, "asyncpg", "Connection") or _is_a(
        session, "asyncpg.pool", "PoolConnectionProxy"
    ):
        call: Awaitable[UUID] = session.fetchval(
            f"SELECT {name}($1, CAST($2 AS text)::jsonb, CAST($3 AS text)::jsonb)", *binds
        )
        return call
    raise TypeError(
        f"{type(session).__qualname__} is no session or connection of SQLAlchemy, psycopg, asyncpg"
    )


def _is_a(session: object, module: str, *names: str) -> bool:
    """Whether it is an instance of a class there; nothing is imported for that."""
    loaded = sys.modules.get(module)
    classes = tuple(filter(None, (getattr(loaded, name, None) for name in names)))
    return isinstance(session, classes)


def _statement(name: str, binds: Binds) -> tuple[Any, dict[str, str | None]]:
    from sqlalchemy import text  # noqa: PLC0415 - whoever has a session has imported it

    call = text(f"SELECT {name}(:name, CAST(:content AS jsonb), CAST(:options AS jsonb))")
    return call, dict(zip(("name", "content", "options"), binds, strict=True))


async def _scalar(session: Any, name: str, binds: Binds) -> UUID:
    result = await session.execute(*_statement(name, binds))
    return cast("UUID", result.scalar_one())


async def _first(connection: Any, name: str, binds: Binds) -> UUID:
    cursor = await connection.execute(f"SELECT {name}{_PARAMETERS}", binds)
    return cast("UUID", (await cursor.fetchone())[0])
