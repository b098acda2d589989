"""`lading_enqueue`: a job from within somebody's own transaction, as good as any other."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from pydantic import BaseModel, Field, SecretStr, ValidationError
from sqlalchemy import Connection, Engine, exc
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlmodel import col

from jobs.audit import audit
from jobs.catalogue import register_kinds, secret_args
from jobs.enqueue import Accepted, Intake, enqueue
from jobs.lifecycle import cancel
from jobs.models import Job
from jobs.registry import Registry, load_registry
from jobs.removal import delete_job
from jobs.settings import Settings
from jobs.submissions import Submission, Unique, check
from lading import JobContext, job
from lading import enqueue as enqueue_here
from lading.authoring import find_kind
from tests.conftest import ROOT
from tests.jobs.making import PROJECT, read_events, read_job
from tests.kinds_for_tests import Echo, Secret, echo, secret

DIFFERENT = {"id", "created_at", "queued_at", "run_at", "expires_at"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


@pytest.fixture(scope="module", autouse=True)
def _known(engine: Engine, registry: Registry) -> None:
    with engine.begin() as connection:
        register_kinds(connection, registry)


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


def call(
    connection: Connection, kind: str, args: Any = None, options: dict[str, Any] | None = None
) -> UUID:
    statement = sa.text("SELECT lading_enqueue(:kind, CAST(:args AS jsonb), CAST(:more AS jsonb))")
    binds = {"kind": kind, "args": json.dumps(args or {}), "more": json.dumps(options or {})}
    made: UUID = connection.execute(statement, binds).scalar_one()
    return made


SOON = datetime.now(UTC) + timedelta(days=366)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "many": {
        "queue": "io.mail",
        "priority": 9,
        "max_attempts": 7,
        "timeout": 12.5,
        "labels": {"team": "a"},
    },
    "later": {"delay": 60, "expires_in": 5},
    "at a time": {"run_at": f"{SOON.year}-12-31T00:00:00+02:00"},
    "unique": {"unique": {"key": "a", "scope": "active"}, "delay": 60},
    "overdue": {"run_at": "2001-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_it_writes_what_the_api_writes(
    options: dict[str, Any], connection: Connection, registry: Registry
) -> None:
    asked = dict(options)
    for name in {"delay", "timeout", "expires_in"} & asked.keys():
        asked[name] = timedelta(seconds=asked[name])
    if "run_at" in asked:
        asked["run_at"] = datetime.fromisoformat(asked["run_at"])
    if "unique" in asked:
        asked["unique"] = Unique(**asked["unique"])
    new = check(registry, Submission(kind="test.echo", args={"value": 1}, **asked))
    (accepted,) = enqueue(connection, [Intake(PROJECT, [new])], process_id=uuid4())
    assert isinstance(accepted, Accepted)
    ours = read_job(connection, new.id)
    if "unique" in options:
        cancel(connection, PROJECT, new.id, "to make room")
    made = call(connection, "test.echo", {"value": 1}, options)
    theirs = read_job(connection, made)
    for name, value in ours._mapping.items():
        if name not in DIFFERENT:
            assert theirs._mapping[name] == value, name
    for name in ("queued_at", "run_at", "expires_at"):
        assert (ours._mapping[name] is None) == (theirs._mapping[name] is None), name
    (event,) = read_events(connection, made)
    model, *_ = read_events(connection, new.id)
    assert (event.seq, event.type, event.attempt, event.data) == (
        model.seq,
        model.type,
        model.attempt,
        model.data,
    )
    assert (made.version, made.variant) == (7, new.id.variant)
    assert abs(made.int - new.id.int) >> 80 < 60_000  # milliseconds between the two


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "an unknown option": ({}, {"colour": 1}, "no such option: colour"),
    "args that are no object": ([1], {}, "args is an object"),
    "long args": ({"value": "x" * 262_144}, {}, "262144"),
    "two times": ({}, {"delay": 1, "run_at": "2099-01-01T00:00:00Z"}, "not both"),
    "a time of nowhere": ({}, {"run_at": "2099-01-01T00:00:00"}, "offset"),
    "a time far away": ({}, {"run_at": "2999-01-01T00:00:00Z"}, "ten years"),
    "a queue in capitals": ({}, {"queue": "Mail"}, "queue"),
    "a priority too high": ({}, {"priority": 10}, "priority"),
    "no attempts": ({}, {"max_attempts": 0}, "max_attempts"),
    "too many attempts": ({}, {"max_attempts": 1001}, "max_attempts"),
    "a negative delay": ({}, {"delay": -1}, "delay"),
    "a delay in words": ({}, {"delay": "1"}, "delay"),
    "no time": ({}, {"timeout": 0}, "timeout"),
    "labels that are none": ({}, {"labels": ["a"]}, "labels"),
    "a label that is no text": ({}, {"labels": {"a": 1}}, "labels"),
    "many labels": ({}, {"labels": {str(n): "" for n in range(65)}}, "64"),
    "an empty key": ({}, {"idempotency_key": ""}, "idempotency_key"),
}


@pytest.mark.parametrize(("args", "options", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused(
    args: Any, options: dict[str, Any], words: str, connection: Connection
) -> None:
    with pytest.raises(exc.DBAPIError, match=words) as caught:
        call(connection, "test.echo", args, options)
    assert isinstance(caught.value.orig, errors.InvalidParameterValue)


def test_a_kind_that_no_worker_has_is_refused(connection: Connection) -> None:
    with pytest.raises(exc.DBAPIError, match=r"there is no kind 'no\.such'"):
        call(connection, "no.such")


def test_a_job_vanishes_with_its_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        made = call(connection, "test.echo")
        connection.rollback()
        found = connection.execute(sa.select(col(Job.id)).where(col(Job.id) == made)).first()
    assert found is None


def test_the_accounts_count_it(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(3):
            call(connection, "test.echo")
    with engine.connect() as connection:
        assert audit(connection).findings == []


def test_open_transactions_do_not_wait_for_each_other(engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        call(first, "test.echo")
        second.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
        call(second, "test.echo")
        second.commit()
        first.commit()


def test_secrets_are_not_shown(connection: Connection) -> None:
    made = call(connection, "test.secret", {"user": "ann", "password": "hunter2"})
    row = read_job(connection, made)
    assert row.args["password"] == "hunter2"
    assert row.redacted_args == {"user": "ann", "password": "**********"}


class Nested(BaseModel):
    inner: list[Secret]
    aliased: SecretStr = Field(alias="Alias")
    plain: int = 0


@job("test.nested_secrets")
def nested(context: JobContext, args: Nested) -> None:
    """Never runs."""


def test_secrets_are_found_under_every_name() -> None:
    kind = find_kind(nested)
    assert kind is not None
    assert secret_args(kind) == {"inner", "aliased", "Alias"}


def test_a_key_makes_one_job(engine: Engine) -> None:
    key = {"idempotency_key": "sql-1"}
    with engine.begin() as connection:
        first = call(connection, "test.echo", {"value": 1}, key)
    with engine.begin() as connection:
        assert call(connection, "test.echo", {"value": 1}, key) == first
    with engine.connect() as connection, pytest.raises(exc.IntegrityError, match="another request"):
        call(connection, "test.echo", {"value": 2}, key)
    with engine.begin() as connection:
        cancel(connection, PROJECT, first, "not wanted")
        delete_job(connection, PROJECT, first, process_id=uuid4())
    with engine.connect() as connection, pytest.raises(exc.DBAPIError, match="was deleted"):
        call(connection, "test.echo", {"value": 1}, key)


@pytest.fixture
def stranger(engine: Engine, url: str) -> Iterator[str]:
    """The URL of a role that may connect, and nothing else."""
    name = f"app_{uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD 'app'"))
    parsed = sa.make_url(url).set(username=name, password="app")
    yield parsed.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {name}"))
        connection.execute(sa.text(f"DROP ROLE {name}"))


def test_a_role_needs_the_right_to_the_function_alone(engine: Engine, stranger: str) -> None:
    role = sa.make_url(stranger).username
    statement = "SELECT lading_enqueue('test.echo', '{}')"
    with psycopg.connect(stranger) as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)
        connection.rollback()
        with engine.begin() as owner:
            grant = f"GRANT EXECUTE ON FUNCTION lading_enqueue TO {role}"
            owner.execute(sa.text(grant))
        assert connection.execute(statement).fetchone()
        connection.execute("CREATE TEMPORARY TABLE job (id uuid)")  # shadows nothing
        assert connection.execute(statement).fetchone()
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM public.job")


def test_kinds_are_written_when_they_have_changed(engine: Engine, registry: Registry) -> None:
    read = sa.text("SELECT name, xmin::text FROM kind ORDER BY name")
    with engine.begin() as connection:
        before = [*connection.execute(read)]
        register_kinds(connection, registry)
        assert [*connection.execute(read)] == before
        connection.execute(sa.text("UPDATE kind SET queue = 'old' WHERE name = 'test.echo'"))
        register_kinds(connection, registry)
        queue = "SELECT queue FROM kind WHERE name = 'test.echo'"
        assert connection.execute(sa.text(queue)).scalar_one() == "default"


def exists(engine: Engine, job_id: UUID) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(sa.select(col(Job.id)).where(col(Job.id) == job_id)).first())


def test_sessions_and_connections_of_all_drivers_are_taken(engine: Engine, url: str) -> None:
    with Session(engine) as session:
        by_session = enqueue_here(session, echo, Echo(value="ä"), delay=timedelta(seconds=5))
        assert not exists(engine, by_session)
        session.commit()
    with engine.begin() as connection:
        by_connection = enqueue_here(connection, "test.echo", {"value": 1}, run_at=SOON, labels={})
    with psycopg.connect(url) as driver:
        by_psycopg = enqueue_here(driver, "test.echo", {"value": None}, priority=0)
    assert all(exists(engine, each) for each in (by_session, by_connection, by_psycopg))
    assert all(exists(engine, each) for each in asyncio.run(_asynchronously(url)))


async def _asynchronously(url: str) -> list[UUID]:
    made = []
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    async with AsyncSession(engine) as session, session.begin():
        made.append(await enqueue_here(session, echo, Echo(value=1)))
    async with engine.begin() as connection:
        made.append(await enqueue_here(connection, echo, Echo(value=2)))
    await engine.dispose()
    async with await psycopg.AsyncConnection.connect(url) as driver:
        made.append(await enqueue_here(driver, echo, Echo(value=3)))
    stranger = await asyncpg.connect(url)
    async with stranger.transaction():
        made.append(await enqueue_here(stranger, echo, {"value": 4}))
    await stranger.close()
    pool = await asyncpg.create_pool(url, min_size=1, max_size=1)
    async with pool.acquire() as lent:
        made.append(await enqueue_here(lent, echo, {"value": 5}))
    await pool.close()
    return made


def test_what_is_wrong_is_said_before_anything_is_sent(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(ValidationError):
            enqueue_here(connection, secret, {"user": "ann"})
        with pytest.raises(ValueError, match="time zone"):
            enqueue_here(connection, echo, {}, run_at=datetime(2027, 1, 1))  # noqa: DTZ001
        with pytest.raises(TypeError, match="@job"):
            enqueue_here(connection, len, {})
        with pytest.raises(TypeError, match="psycopg"):
            enqueue_here(engine, echo, {})  # type: ignore[call-overload]


def test_the_how_to_does_what_it_says(engine: Engine) -> None:
    """Its function and its SQL are run as they stand there."""
    page = (ROOT / "docs/how-to/enqueue-in-your-transaction.md").read_text()
    (python,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (script,) = re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE shop_order (number integer)"))
    names: dict[str, Any] = {}
    exec(python, names)
    with Session(engine) as session:
        names["save_order"](session, 6)
    with engine.connect() as connection:
        for statement in script.split(";")[1:3]:
            connection.exec_driver_sql(statement)
        connection.commit()
        found = "SELECT args->>'value', state::text FROM job WHERE args->>'value' IN ('6', '7')"
        rows = {tuple(row) for row in connection.execute(sa.text(found))}
        orders = connection.execute(sa.text("SELECT number FROM shop_order ORDER BY 1"))
        numbers = [*orders.scalars()]
    assert (rows, numbers) == ({("6", "queued"), ("7", "scheduled")}, [6, 7])


def test_a_unique_key_in_sql_keeps_to_its_policy(connection: Connection) -> None:
    first = call(connection, "test.echo", {}, {"unique": {"key": "sql"}})
    with pytest.raises(exc.IntegrityError, match=str(first)), connection.begin_nested():
        call(connection, "test.echo", {}, {"unique": {"key": "sql"}})
    again = {"unique": {"key": "sql", "on_conflict": "return"}, "idempotency_key": "sql"}
    assert call(connection, "test.echo", {}, again) == first
    assert call(connection, "test.echo", {}, again) == first
    other = {"unique": {"key": "sql", "on_conflict": "replace"}}
    second = call(connection, "test.echo", {}, other)
    assert read_job(connection, first).state == "cancelled"
    assert read_events(connection, first)[-1].data == {"reason": "replaced"}
    assert second != first


def test_a_job_in_sql_waits_for_others(connection: Connection) -> None:
    first = call(connection, "test.echo")
    second = enqueue_here(connection, "test.echo", {}, after=[first, first])
    job = read_job(connection, second)
    assert (job.state, job.after, job.parents_left) == ("waiting", [first], 1)
    assert read_events(connection, second)[0].data == {"state": "waiting"}
    for wrong in ({"after": [str(uuid4())]}, {"after": ["x"]}, {"unique": {"key": "a", "b": 1}}):
        with pytest.raises(exc.DataError), connection.begin_nested():
            call(connection, "test.echo", {}, wrong)
