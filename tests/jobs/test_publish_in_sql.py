"""`lading_publish`: an event from within somebody's own transaction, and what it meets after it."""

import asyncio
import json
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import Connection, Engine, exc
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from jobs.bus.envelope import complete_event
from jobs.bus.pending import publish_later, settle
from jobs.bus.publishing import MOST_DEPTH, Published, publish
from jobs.bus.queries import EventFilter, get_event
from jobs.bus.replay import preview
from jobs.bus.triggers import TriggerSpec, TriggerView, create_trigger
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from lading import publish as publish_here
from lading import testing
from tests.conftest import ROOT
from tests.jobs.making import PROJECT


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


@pytest.fixture
def kind(engine: Engine, registry: Registry) -> str:
    """A type of the test's own; whatever other tests have left is settled."""
    met(engine, registry)
    return f"t{uuid4().hex}.made"


def call(connection: Connection, type_: Any, data: Any = None, **options: Any) -> UUID:
    statement = sa.text("SELECT lading_publish(:type, CAST(:data AS jsonb), CAST(:more AS jsonb))")
    binds = {"type": type_, "data": json.dumps(data), "more": json.dumps(options)}
    made: UUID = connection.execute(statement, binds).scalar_one()
    return made


def wait_for(connection: Connection, type_: str) -> TriggerView:
    spec = TriggerSpec(pattern=type_, kind="test.echo", args={"value": "data.value"})
    return create_trigger(connection, PROJECT, spec)


def met(engine: Engine, registry: Registry) -> list[Published]:
    """What one dispatcher lets meet their triggers until there is no more."""
    found: list[Published] = []
    while True:
        with engine.begin() as connection:
            settled = settle(connection, registry, 2)
        if not settled:
            return found
        found += [each for published in settled.values() for each in published]


def test_it_writes_what_the_api_writes(connection: Connection, registry: Registry) -> None:
    given = {"id": "17", "source": "/shop", "subject": "Ada"}
    document = {"type": "user.created", "data": {"value": 1}, **given}
    (theirs,) = publish(connection, registry, PROJECT, [complete_event(document, PROJECT)])
    made = call(connection, "user.created", {"value": 1}, **{**given, "id": "18"})
    ours, model = get_event(connection, PROJECT, made).envelope, theirs.event.envelope
    assert {**ours, "id": "", "time": ""} == {**model, "id": "", "time": ""}
    complete_event(ours, PROJECT)
    plain = get_event(connection, PROJECT, call(connection, "user.created")).envelope
    usual = complete_event({"type": "user.created", "data": None}, PROJECT).document
    assert {**plain, "id": "", "time": ""} == {**usual, "id": "", "time": ""}
    assert (made.version, made.variant) == (7, uuid4().variant)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no type": (None, {}, "type has"),
    "a long type": ("x" * 256, {}, "type has"),
    "a type with a control": ("a\x07", {}, "type has"),
    "an unknown option": ("a", {"colour": "red"}, "no such option: colour"),
    "a number": ("a", {"id": 1}, "options are texts"),
    "an empty id": ("a", {"id": ""}, "id has"),
    "no uri": ("a", {"source": "a b"}, "source is"),
    "two fragments": ("a", {"source": "/a#b#c"}, "source is"),
    "Lading's own source": ("a", {"source": "/lading/jobs/1"}, "Lading's"),
    "an empty subject": ("a", {"subject": ""}, "subject has"),
    "long data": ("a", {"subject": "x" * 1024, "id": "y" * 512, "source": "long"}, "262144"),
    "no project": ("a", {"project": "nowhere"}, "there is no project"),
}


@pytest.mark.parametrize(("type_", "options", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused(
    type_: Any, options: dict[str, Any], words: str, connection: Connection
) -> None:
    data = "x" * 262_144 if words == "262144" else None
    with pytest.raises(exc.DBAPIError, match=words) as caught:
        call(connection, type_, data, **options)
    assert isinstance(caught.value.orig, errors.InvalidParameterValue)


def test_the_event_commits_or_vanishes_with_the_work(
    engine: Engine, registry: Registry, kind: str
) -> None:
    with engine.begin() as connection:
        wait_for(connection, kind)
    with engine.connect() as connection:
        call(connection, kind, {"value": 1})
        assert met(engine, registry) == [], "it is not committed"
        connection.rollback()
    assert met(engine, registry) == []
    with engine.begin() as connection:
        first, second = (call(connection, kind, {"value": n}, id=str(n)) for n in (1, 2))
        assert call(connection, kind, {"value": 3}, id="1") == first, "the same event"
    published = sorted(met(engine, registry), key=lambda each: each.event.id != first)
    assert [each.event.id for each in published] == [first, second]
    assert [[job.args for job in each.jobs] for each in published] == [
        [{"value": 1}],
        [{"value": 2}],
    ]
    assert met(engine, registry) == []
    with engine.begin() as connection:
        shown = get_event(connection, PROJECT, first)
        assert [firing.job_id for firing in shown.firings] == [published[0].jobs[0].id]


def test_two_dispatchers_do_not_share_an_event(
    engine: Engine, registry: Registry, kind: str
) -> None:
    with engine.begin() as connection:
        wait_for(connection, kind)
        call(connection, kind, {"value": 1})
    with engine.begin() as one, engine.begin() as other:
        (mine,) = settle(one, registry, 10)[PROJECT]
        assert settle(other, registry, 10) == {}
    assert len(mine.jobs) == 1
    assert met(engine, registry) == []


def test_what_was_not_committed_is_done_again(
    engine: Engine, registry: Registry, kind: str
) -> None:
    with engine.begin() as connection:
        wait_for(connection, kind)
        call(connection, kind, {"value": 1})
    with engine.connect() as connection:
        assert settle(connection, registry, 10)
        connection.rollback()
    (again,) = met(engine, registry)
    assert len(again.jobs) == 1


def test_a_replay_leaves_what_is_pending_to_the_dispatcher(
    engine: Engine, registry: Registry, kind: str
) -> None:
    with engine.begin() as connection:
        trigger = wait_for(connection, kind)
        call(connection, kind, {"value": 1})
        assert preview(connection, trigger, EventFilter()).count == 0
    assert len(met(engine, registry)) == 1


def test_a_loop_is_cut(engine: Engine, registry: Registry, kind: str) -> None:
    with engine.begin() as connection:
        wait_for(connection, kind)
        deep = complete_event({"type": kind, "data": {"value": 1}}, PROJECT)
        publish_later(connection, PROJECT, deep._replace(depth=MOST_DEPTH + 1))
    (published,) = met(engine, registry)
    assert (published.jobs, published.event.firings) == ([], [])
    assert "fires nothing" in str(published.event.error)


def test_every_driver_carries_it(settings: Settings, engine: Engine, kind: str) -> None:
    url = settings.database_url.get_secret_value()
    said: dict[str, Any] = {"id": "17", "subject": "Ada"}
    with Session(engine) as session:
        made = publish_here(session, kind, {"value": 1}, **said)
        session.commit()
    with psycopg.connect(url) as plain:
        assert publish_here(plain, kind, {"value": 1}, **said) == made

    async def others() -> list[UUID]:
        awaited = create_async_engine(settings.sqlalchemy_url)
        async with AsyncSession(awaited) as session:
            found = [await publish_here(session, kind, **said)]
        await awaited.dispose()
        connection = await asyncpg.connect(url)
        found.append(await publish_here(connection, kind, **said))
        await connection.close()
        return found

    assert asyncio.run(others()) == [made, made]
    with engine.connect() as connection:
        assert get_event(connection, PROJECT, made).envelope["subject"] == "Ada"


def test_nobody_may_call_it_who_was_not_allowed(connection: Connection) -> None:
    granted = connection.scalar(
        sa.text("SELECT has_function_privilege('pg_monitor', :name, 'EXECUTE')"),
        {"name": "lading_publish(text, jsonb, jsonb)"},
    )
    assert granted is False


def test_what_the_page_shows_is_published(engine: Engine) -> None:
    """The last three blocks of docs/how-to/react-to-events.md that are no JSON."""
    page = (ROOT / "docs/how-to/react-to-events.md").read_text()
    blocks = re.findall(r"^```(python|sql)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (_, handler), (_, program), (language, statement) = blocks[-3:]
    found: dict[str, Any] = {}
    exec(compile(handler, "react-to-events.md", "exec", dont_inherit=True), found)
    done = testing.run(found["pay"], {"email": "ada@example.com"})
    assert [event.type for event in done.published] == ["order.paid", "order.seen"]
    assert language == "sql"
    events = sa.text("SELECT envelope FROM cloud_event WHERE event_id = 'user-17'")
    with engine.connect() as connection, Session(connection) as session:
        exec(
            compile(program, "react-to-events.md", "exec", dont_inherit=True), {"session": session}
        )
        (first,) = session.execute(events).scalars()
        assert (first["type"], first["data"]) == ("user.created", {"email": "ada@example.com"})
        session.rollback()
        session.execute(sa.text(statement.replace(":", "\\:")))
        (event,) = session.execute(events).scalars()
        assert (event["subject"], event["data"]) == ("17", first["data"])
