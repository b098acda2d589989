"""What a follower sees of a job, with real servers, whatever becomes of the hints."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import Engine, delete, text
from sqlmodel import col

from api.database import Database
from api.draining import Draining
from api.feed import KEPT_EVENTS
from api.follower import Follower
from api.hub import PAGE, SWEEP_EVERY, Hub
from api.recorded import Recorded
from jobs.errors import JobNotFound
from jobs.hints import EVENTS, Hints
from jobs.models import Job
from jobs.settings import Settings
from tests.api.stories import BadHints, Story, listeners, telling
from tests.eventually import eventually
from tests.jobs.making import PROJECT, read_events

pytestmark = pytest.mark.anyio
LATE = 2.0  # seconds that a stream without hints may be behind
GRACE = 8.0  # seconds more for a machine that has other things to do


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def hints(settings: Settings) -> Iterator[Hints]:
    with telling(settings.broker_url.get_secret_value()) as sender:
        yield sender


@pytest.fixture
def story(engine: Engine, hints: Hints) -> Story:
    return Story(engine, hints)


@pytest.fixture
def silent(engine: Engine) -> Story:
    """A story whose hints are all lost."""
    return Story(engine)


@pytest.fixture
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    async with running(settings) as hub:
        yield hub


@asynccontextmanager
async def running(settings: Settings, draining: Draining | None = None) -> AsyncIterator[Hub]:
    database, broker = Database(settings), settings.broker_url.get_secret_value()
    try:
        async with Hub(database, broker, draining or Draining()) as hub:
            yield hub
    finally:
        database.close()


async def read_all(hub: Hub, job_id: UUID, after: int = 0) -> list[Recorded]:
    """What a follower gets until its job is over."""
    async with hub.follow(PROJECT, job_id, after) as follower:
        return await read_rest(follower)


async def read_rest(follower: Follower) -> list[Recorded]:
    got: list[Recorded] = []
    async with asyncio.timeout(60):
        while events := await follower.read():
            got.extend(events)
    assert follower.is_over
    return got


def logged(engine: Engine, job_id: UUID, after: int = 0) -> list[tuple[int, str]]:
    """What stands in the log."""
    with engine.connect() as connection:
        return [(row.seq, row.type) for row in read_events(connection, job_id)[after:]]


def names(events: Sequence[Recorded]) -> list[tuple[int, str]]:
    for event in events:
        document = json.loads(event.json)
        assert (document["seq"], document["type"]) == (event.seq, event.type)
    return [(event.seq, event.type) for event in events]


async def in_thread(function: Any, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


async def hears(hub: Hub, settings: Settings) -> None:
    """The hub has its subscription: from now on hints reach it."""
    broker = settings.broker_url.get_secret_value()
    await in_thread(eventually, lambda: listeners(broker))


async def test_a_follower_gets_history_first_and_then_what_happens(
    hub: Hub, story: Story, settings: Settings, engine: Engine
) -> None:
    job_id = story.begin()
    story.progress(job_id, 3)
    async with hub.follow(PROJECT, job_id, 0) as follower:
        assert names(await follower.read()) == logged(engine, job_id)
        await hears(hub, settings)
        assert await follower.read(0.05) == []
        await in_thread(story.progress, job_id)
        assert names(await follower.read(GRACE)) == [(5, "progress")]
        await in_thread(story.succeed, job_id)
        assert names(await follower.read(GRACE)) == [(6, "succeeded")]
        assert await follower.read() == []
        assert follower.is_over


async def test_following_resumes_after_every_seq(hub: Hub, story: Story, engine: Engine) -> None:
    job_id = story.begin()
    story.progress(job_id, 5)
    story.fail(job_id)
    for after in range(9):
        assert names(await read_all(hub, job_id, after)) == logged(engine, job_id, after)


async def test_a_final_event_before_a_manual_retry_is_no_end(
    hub: Hub, story: Story, engine: Engine
) -> None:
    job_id = story.begin()
    story.fail(job_id)
    story.retry(job_id)
    async with hub.follow(PROJECT, job_id, 0) as follower:
        reading = asyncio.create_task(read_rest(follower))
        await in_thread(story.start, job_id, 2)
        await in_thread(story.succeed, job_id, 2)
        got = names(await reading)
    assert got == logged(engine, job_id)
    assert [type_ for _, type_ in got] == ["created", "failed", "queued", "started", "succeeded"]


async def test_what_is_not_there_cannot_be_followed(hub: Hub, story: Story) -> None:
    job_id = story.begin()
    for project, wanted in ((PROJECT, uuid4()), ("another", job_id)):
        with pytest.raises(JobNotFound):
            async with hub.follow(project, wanted, 0):
                pass
    assert not hub._feeds


async def test_a_job_that_is_deleted_ends_its_streams(hub: Hub, silent: Story) -> None:
    job_id = silent.begin()
    async with hub.follow(PROJECT, job_id, 1) as follower, hub.watch(job_id) as watch:
        with silent.engine.begin() as connection:
            connection.execute(delete(Job).where(col(Job.id) == job_id))
        assert await watch.wait(LATE + GRACE, 1)
        assert await follower.read() == []
        assert (follower.is_gone, follower.is_over) == (True, False)


async def test_without_hints_events_come_within_two_seconds(hub: Hub, silent: Story) -> None:
    assert SWEEP_EVERY < LATE
    job_id = silent.begin()
    async with hub.follow(PROJECT, job_id, 1) as follower:
        for seq in (2, 3):
            await in_thread(silent.progress, job_id)
            began = time.monotonic()
            assert [event.seq for event in await follower.read()] == [seq]
            assert time.monotonic() - began < LATE + GRACE


@pytest.mark.parametrize("bound", ["api.hub.MOST_NEWS", "jobs.events.MOST_BYTES"])
async def test_much_news_comes_in_parts_at_once(
    hub: Hub, silent: Story, engine: Engine, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(bound, 3)  # so that a sweep for each part would take half a minute
    jobs = [silent.begin() for _ in range(10)]
    async with AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(hub.follow(PROJECT, job_id, 1)) for job_id in jobs
        ]
        reading = [asyncio.create_task(read_rest(follower)) for follower in followers]
        for job_id in jobs:
            await in_thread(silent.progress, job_id, 20)
            await in_thread(silent.succeed, job_id)
        began = time.monotonic()
        got = await asyncio.gather(*reading)
        assert time.monotonic() - began < LATE + 2 * GRACE
    assert [names(events) for events in got] == [logged(engine, job_id, 1) for job_id in jobs]


async def test_an_event_too_large_for_a_hint_comes_at_once(
    hub: Hub, story: Story, settings: Settings
) -> None:
    job_id = story.begin()
    async with hub.follow(PROJECT, job_id, 1) as follower:
        await hears(hub, settings)
        assert await follower.read(0.2) == []  # a sweep at the beginning is over
        took = []
        for seq in range(2, 7):
            began = time.monotonic()
            await in_thread(story.log, job_id, "x" * 5000)
            assert [event.seq for event in await follower.read()] == [seq]
            took.append(time.monotonic() - began)
        assert min(took) < SWEEP_EVERY / 5, took


def publish(settings: Settings, message: bytes) -> None:
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as client:
        client.publish(EVENTS, message)


async def test_hints_that_are_none_disturb_nobody(
    hub: Hub, story: Story, settings: Settings
) -> None:
    job_id = story.begin()
    async with hub.follow(PROJECT, job_id, 1) as follower:
        await hears(hub, settings)
        for noise in (b"", b"noise", b'{"job_id":"%s"' % str(job_id).encode(), b"\xff" * 100):
            publish(settings, noise)
        await in_thread(story.progress, job_id)
        assert [event.seq for event in await follower.read()] == [2]


@pytest.mark.parametrize("lost", [0.0, 0.3, 1.0])
async def test_everybody_gets_everything_however_hints_come(
    settings: Settings, engine: Engine, lost: float
) -> None:
    """200 jobs of 10 events, followed by people who join at any time, at any place."""
    sender = BadHints(settings.broker_url.get_secret_value(), seed=int(lost * 10), lost=lost)
    story = Story(engine, sender)
    jobs = [story.begin() for _ in range(200)]

    def live(job_id: UUID) -> None:
        story.progress(job_id, 6)
        story.log(job_id, "nearly there")
        story.progress(job_id, 1, "x" * 5000)
        story.succeed(job_id)

    async with running(settings) as hub:

        async def follow(number: int, job_id: UUID) -> None:
            joins_at = number % 10  # once the job has so many events more
            await asyncio.get_running_loop().run_in_executor(
                None, eventually, lambda: len(story.told[job_id]) >= joins_at
            )
            after = number % 12
            got = names(await read_all(hub, job_id, after))
            assert got == logged(engine, job_id, after)
            assert after >= 10 or got[-1] == (10, "succeeded")

        with ThreadPoolExecutor(4) as pool:
            lives = [pool.submit(live, job_id) for job_id in jobs]
            readers = [follow(number, jobs[number // 3]) for number in range(600)]
            await asyncio.gather(*readers)
            for life in lives:
                life.result()
        assert not hub._feeds
    sender.close()


async def test_nothing_is_kept_for_a_slow_reader(hub: Hub, story: Story, engine: Engine) -> None:
    job_id = story.begin()
    async with hub.follow(PROJECT, job_id, 0) as slow, hub.follow(PROJECT, job_id, 0) as quick:
        reading = asyncio.create_task(read_rest(quick))
        await in_thread(story.progress, job_id, 3 * PAGE)
        await in_thread(story.succeed, job_id)
        expected = logged(engine, job_id)
        assert names(await reading) == expected
        (feed,) = hub._feeds.values()
        assert len(feed._kept) <= KEPT_EVENTS
        assert names(await read_rest(slow)) == expected


async def test_idle_followers_hold_no_connection(
    settings: Settings, story: Story, engine: Engine
) -> None:
    jobs = [story.begin() for _ in range(50)]
    database, draining = Database(settings, size=2), Draining()
    async with Hub(database, settings.broker_url.get_secret_value(), draining) as hub:
        following = [asyncio.create_task(read_all(hub, job_id)) for job_id in jobs]
        await in_thread(eventually, lambda: len(hub._feeds) == len(jobs))
        assert await database.run(lambda connection: connection.scalar(text("SELECT 1"))) == 1
        assert len(hub._feeds) == len(jobs)
        draining.begin()
        await asyncio.gather(*following, return_exceptions=True)
    database.close()


async def test_hints_are_heard_only_while_somebody_follows(
    settings: Settings, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.subscription.LINGER", 0.1)
    monkeypatch.setattr("api.subscription.QUIET", 0.1)
    broker = settings.broker_url.get_secret_value()
    async with running(settings) as hub:
        assert await in_thread(listeners, broker) == 0
        async with hub.follow(PROJECT, story.begin(), 1) as follower:
            await hears(hub, settings)
            assert await follower.read(0.5) == []  # meanwhile a quiet Redis is asked for a sign
            assert await in_thread(listeners, broker) == 1
        await in_thread(eventually, lambda: not listeners(broker))


async def test_a_watch_is_woken_by_a_hint(hub: Hub, story: Story, settings: Settings) -> None:
    job_id = story.begin()
    async with hub.watch(job_id) as watch:
        await hears(hub, settings)
        while await watch.wait(0.2, 1):
            pass  # the sweeps at the beginning may wake it
        took = []
        for seq in range(1, 6):
            waiting = asyncio.create_task(watch.wait(30, seq))
            await in_thread(story.progress, job_id)
            began = time.monotonic()
            assert await waiting
            took.append(time.monotonic() - began)
        assert min(took) < SWEEP_EVERY / 5, took
        assert await watch.wait(30, 1), "what was seen before is old by now"


@pytest.mark.parametrize("seen", [1, None])
async def test_a_watch_is_woken_without_hints(hub: Hub, silent: Story, seen: int | None) -> None:
    job_id = silent.begin()
    async with hub.watch(job_id) as watch:
        waiting = asyncio.create_task(watch.wait(30, seen))
        await in_thread(silent.progress, job_id)
        began = time.monotonic()
        assert await waiting
        assert time.monotonic() - began < LATE + GRACE


async def test_draining_ends_every_wait_at_once(settings: Settings, story: Story) -> None:
    job_id, draining = story.begin(), Draining()
    async with (
        running(settings, draining) as hub,
        hub.follow(PROJECT, job_id, 1) as follower,
        hub.watch(job_id) as watch,
    ):
        waits: list[Any] = [follower.read(), watch.wait(30, 1)]
        waiting = [asyncio.create_task(wait) for wait in waits]
        await asyncio.sleep(0)
        began = time.monotonic()
        draining.begin()
        assert await asyncio.gather(*waiting) == [[], False]
        assert time.monotonic() - began < GRACE  # the one would wait for 30 s, the other for ever
        assert (follower.is_stopped, follower.is_over) == (True, False)
        assert not await watch.wait(30, 1)


async def test_a_reader_that_leaves_is_let_go_at_once(hub: Hub, story: Story) -> None:
    async with hub.follow(PROJECT, story.begin(), 1) as follower:
        waiting = asyncio.create_task(follower.read())
        await asyncio.sleep(0)
        follower.stop()
        assert await waiting == []
    assert not hub._feeds
