"""The quick lane beside the writer's thread: neither waits for the other, and nothing is lost."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from api.intake import IntakeWriter
from api.lane import LARGE, MOST_CHARACTERS
from jobs.enqueue import Accepted, Intake
from jobs.settings import Settings
from jobs.submissions import Submission, check
from tests.api.serving import Api
from tests.api.test_intake import (
    REGISTRY,
    accepted_of,
    accounts_balance,
    an_intake,
    open_lane,
    post,
    run,
)
from tests.eventually import eventually


def of_size(characters: int) -> Intake:
    args = {"value": "x" * (characters - len('{"value":""}'))}
    return Intake("default", [check(REGISTRY, Submission(kind="test.echo", args=args))])


def test_submissions_that_do_not_fit_into_the_sockets_buffer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.lane.LARGE", 1_000_000)
    monkeypatch.setattr("api.lane.MOST_CHARACTERS", math.inf)
    sent = [of_size(250_000) for _ in range(100)]

    async def send(writer: IntakeWriter) -> list[Accepted]:
        accepted = await asyncio.gather(*map(writer.submit, sent))
        assert writer.lane.is_open  # it has taken them all
        return accepted

    accepted = run(settings, send)
    assert [each.jobs[0].id for each in accepted] == [each.jobs[0].id for each in sent]
    assert {len(each.jobs[0].args["value"]) for each in accepted} == {249_988}
    assert len({each.jobs[0].created_at for each in accepted}) <= 2


def counted(engine: Engine, process_id: UUID) -> int:
    statement = text("SELECT sum(accepted) FROM intake_total WHERE process_id = :process_id")
    with engine.connect() as connection:
        return connection.execute(statement, {"process_id": process_id}).scalar_one() or 0


def test_large_submissions_are_left_to_the_thread(settings: Settings, engine: Engine) -> None:
    """On the event loop nobody else would have a turn meanwhile."""

    async def send(writer: IntakeWriter) -> None:
        before = counted(engine, writer.process_id)
        sent = [of_size(LARGE - 1) for _ in range(5)] + [of_size(LARGE) for _ in range(3)]
        await asyncio.gather(*map(writer.submit, sent))
        assert counted(engine, writer.process_id) == before + 3
        assert counted(engine, writer.lane.process_id) == 5

    run(settings, send)


def test_a_group_of_the_quick_lane_is_not_large_either(settings: Settings) -> None:
    each, most = LARGE - 1, MOST_CHARACTERS // (LARGE - 1)

    async def send(writer: IntakeWriter) -> list[Accepted]:
        return await asyncio.gather(*[writer.submit(of_size(each)) for _ in range(3 * most + 1)])

    groups = Counter(accepted.jobs[0].created_at for accepted in run(settings, send))
    assert [groups[at] for at in sorted(groups)] == [most, most, most, 1]


SLOW_COMMITS = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT OR UPDATE ON job
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.labels ? 'slow') EXECUTE FUNCTION slowly();
"""


@pytest.fixture
def slow_commits(engine: Engine) -> Iterator[None]:
    """Of jobs that have the label `slow`: as on a disk that is busy."""
    with engine.begin() as connection:
        connection.execute(text(SLOW_COMMITS))
    yield
    with engine.begin() as connection:
        connection.execute(text("DROP FUNCTION slowly CASCADE"))


@pytest.mark.usefixtures("slow_commits")
def test_slow_commits_of_lane_and_thread_do_not_wait_for_each_other(
    api: Api, engine: Engine
) -> None:
    """Nobody hears of a twin that there is not."""
    label = str(uuid4())
    open_lane(api)

    def send(number: int) -> list[int]:
        labels = {"of": label, "slow": ""}
        keys = [None if number % 2 else f"{label}-{number}-{each}" for each in range(2)]
        return [post(api, key, labels=labels).status_code for key in keys]

    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(send, range(4))]
    assert answers == [[202] * 2] * 4
    assert accepted_of(engine, label) == 8
    assert accounts_balance(engine)


@pytest.mark.parametrize("broken", ["jobs.asking.Asking.hear", "api.lane.read_plain"])
def test_whatever_breaks_in_the_quick_lane_the_thread_finds_what_was_done(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def send(writer: IntakeWriter) -> Any:
        monkeypatch.setattr(broken, lambda *_: 1 / 0)
        async with asyncio.timeout(30):
            return await writer.submit(intake)

    intake = an_intake()
    assert run(settings, send).jobs[0].id == intake.jobs[0].id
    assert accounts_balance(engine)


def test_who_is_accepted_is_answered_even_if_nobody_can_be_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(writer: IntakeWriter) -> Any:
        monkeypatch.setattr("api.intake.created", lambda *_: 1 / 0)
        async with asyncio.timeout(30):
            return await writer.submit(intake)

    intake = an_intake()
    assert run(settings, send).jobs[0].id == intake.jobs[0].id


def test_when_the_lanes_connection_is_lost_the_threads_is_not_trusted(
    settings: Settings, engine: Engine
) -> None:
    """In a network that has fallen silent each would be waited for in turn."""

    def pid_of_the_threads(writer: IntakeWriter) -> int:
        with writer._engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    async def send(writer: IntakeWriter) -> None:
        before = pid_of_the_threads(writer)
        asking: Any = writer.lane._asking
        with engine.connect() as connection:
            ending = text("SELECT pg_terminate_backend(:pid)")
            connection.execute(ending, {"pid": asking._libpq.backend_pid})
        await asyncio.to_thread(eventually, lambda: not writer.lane.is_open)
        await writer.submit(an_intake())
        assert pid_of_the_threads(writer) != before

    run(settings, send)


def test_a_lane_whose_statements_have_gone_is_opened_anew(settings: Settings) -> None:
    async def send(writer: IntakeWriter) -> None:
        asking: Any = writer.lane._asking
        asking._libpq.exec_(b"DEALLOCATE ALL")
        await writer.submit(an_intake())
        assert writer.lane._asking is not asking

    run(settings, send)
