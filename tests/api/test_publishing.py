"""The writer of events: those of many requests a commit, and each as if it were alone."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, field_validator
from sqlalchemy import Engine, text

from api.publishing import EventWriter, Publication
from jobs.bus.envelope import NewEvent, complete_event
from jobs.bus.publishing import Published, publish
from jobs.bus.triggers import TriggerSpec, create_trigger
from jobs.catalogue import register_kinds
from jobs.hints import Hints
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from jobs.trail.record import Actor
from jobs.trail.tallies import Tallies, Tally
from lading import JobContext, job
from lading.authoring import find_kind
from tests.api.serving import Api, problem
from tests.api.test_intake import accounts_balance, uncommitted
from tests.eventually import eventually

PROJECT = "default"


class _Strange(Exception):
    """Of nobody's tree."""


class _Picky(BaseModel):
    value: int = 0

    @field_validator("value")
    @classmethod
    def _is_liked(cls, value: int) -> int:
        if value < 0:
            raise _Strange("not that one")
        return value


@job("test.picky")
def _picky(context: JobContext, args: _Picky) -> None: ...


@pytest.fixture(scope="module")
def registry() -> Registry:
    kind = find_kind(_picky)
    assert kind is not None
    return Registry([*load_registry(["tests.kinds_for_tests"]).values(), kind])


@pytest.fixture
def type_(engine: Engine) -> str:
    """Of events that make a test.picky of their data."""
    name = f"picky.{uuid4()}"
    with engine.begin() as connection:
        create_trigger(connection, PROJECT, TriggerSpec(pattern=name, kind="test.picky"))
    return name


def event_of(type_: str, value: int = 0, event_id: str | None = None) -> NewEvent:
    return complete_event({"type": type_, "data": {"value": value}}, PROJECT, event_id=event_id)


def published_together(
    settings: Settings, registry: Registry, events: Sequence[NewEvent]
) -> list[Any]:
    """What each of them is answered, where all of them came while one commit was in flight."""
    tallies, actor = Tallies(), Actor(PROJECT, None, "tests", None, None)

    def tally(first_id: UUID, times: int) -> Tally:
        return tallies.tally("tests", "event.publish", lambda: actor, first_id, times)

    async def send(writer: EventWriter) -> list[Any]:
        with writer._changed:  # so that it takes all of them at once
            tasks = [
                asyncio.create_task(writer.submit(Publication(PROJECT, [event], tally)))
                for event in events
            ]
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers: list[Any] = run(settings, registry, send)
    return answers


def run(settings: Settings, registry: Registry, use: Callable[[EventWriter], Any]) -> Any:
    hints = Hints(settings.broker_url.get_secret_value())

    async def main() -> Any:
        writer = EventWriter(settings, hints, registry)
        try:
            return await use(writer)
        finally:
            await writer.close()

    try:
        return asyncio.run(main())
    finally:
        hints.close()


def transactions(engine: Engine, type_: str) -> list[int]:
    statement = text("SELECT DISTINCT xact_id FROM cloud_event WHERE type = :type")
    with engine.connect() as connection:
        return [*connection.execute(statement, {"type": type_}).scalars()]


def test_events_that_arrive_during_a_commit_share_the_next(
    settings: Settings, engine: Engine, registry: Registry, type_: str
) -> None:
    events = [event_of(type_, number) for number in range(40)]
    answers = published_together(settings, registry, events)
    made = [answer[0].jobs[0] for answer in answers]
    assert [job.args for job in made] == [{"value": number} for number in range(40)]
    assert [answer[0].event.id for answer in answers] == [event.id for event in events]
    assert len(transactions(engine, type_)) == 1
    assert accounts_balance(engine)


def test_twins_in_one_group_are_one_event(
    settings: Settings, registry: Registry, type_: str
) -> None:
    twins = [event_of(type_, number, "twin") for number in range(5)]
    others = [event_of(type_) for _ in range(3)]
    found = published_together(settings, registry, [*twins, *others])
    answers: list[Published] = [answer for (answer,) in found]
    assert [answer.is_new for answer in answers[:5]].count(True) == 1
    assert len({answer.event.id for answer in answers[:5]}) == 1
    assert sum(len(answer.jobs) for answer in answers) == 4
    assert all(answer.is_new for answer in answers[5:])


def test_an_event_that_cannot_be_spoils_no_neighbour(
    settings: Settings, registry: Registry, type_: str
) -> None:
    """One that the database refuses, and one whose args its kind's model answers strangely."""
    good = [event_of(type_) for _ in range(4)]
    refused, strange = event_of(type_)._replace(depth=2**20), event_of(type_, -1)
    everybody = [*good[:2], refused, strange, *good[2:]]
    answers = published_together(settings, registry, everybody)
    assert isinstance(answers.pop(2), Exception)
    (told,) = answers.pop(2)
    assert "not that one" in told.event.firings[0].error["message"]
    assert [len(each.jobs) for (each,) in answers] == [1] * 4


def test_a_twin_that_does_not_end_is_an_outage_for_one_alone(
    api: Api, engine: Engine, registry: Registry
) -> None:
    event = complete_event({"type": "slow.twin"}, PROJECT, event_id=str(uuid4()))

    def post(event_id: str | None = None) -> Any:
        return api.http.post("/v1/events", json={"type": "slow.twin", "id": event_id})

    with ThreadPoolExecutor(1) as pool:
        with uncommitted(engine) as connection:
            publish(connection, registry, PROJECT, [event])
            blocked = pool.submit(post, event.event_id)
            while not blocked.done():
                assert post().status_code == 202
            problem(blocked.result(), 503, "database-unavailable")
        with uncommitted(engine) as connection:
            publish(connection, registry, PROJECT, [event])
            blocked = pool.submit(post, event.event_id)
            eventually(lambda: is_blocked(engine), every=0.005)
            connection.commit()
        assert blocked.result().status_code == 200


def is_blocked(engine: Engine) -> bool:
    statement = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'lading events' AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:
        return bool(connection.execute(text(statement)).scalar_one())


def test_a_unique_key_that_is_just_being_taken_is_waited_for(
    settings: Settings, engine: Engine, registry: Registry
) -> None:
    """And had, where the other one lets go of it."""
    name, key = f"keyed.{uuid4()}", str(uuid4())
    taken = text("SELECT lading_enqueue('test.picky', '{}', CAST(:options AS jsonb))")
    options = {"unique": {"key": key}}
    with engine.begin() as connection:
        spec = TriggerSpec(pattern=name, kind="test.picky", options=options)
        create_trigger(connection, PROJECT, spec)
        register_kinds(connection, registry)
    publication = Publication(PROJECT, [event_of(name)], _no_tally)

    async def send(writer: EventWriter) -> list[Published]:
        with uncommitted(engine) as connection:
            connection.execute(taken, {"options": f'{{"unique": {{"key": "{key}"}}}}'})
            waiting = asyncio.create_task(writer.submit(publication))
            while not await asyncio.to_thread(is_blocked, engine):
                assert not waiting.done()
        return await waiting

    (published,) = run(settings, registry, send)
    assert len(published.jobs) == 1


def _no_tally(first_id: UUID, times: int) -> Tally:
    return Tally(
        str(uuid4()), PROJECT, None, "tests", "event.publish", str(first_id), None, None, times
    )
