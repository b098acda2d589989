"""Streams live through the loss of Redis and of PostgreSQL."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from api.hub import PAGE, SWEEP_EVERY
from api.recorded import Recorded
from dev.postgres import EmbeddedPostgres, temporary_postgres
from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs import database
from jobs.errors import DatabaseUnavailable
from jobs.settings import Settings
from tests.api.stories import Story, listeners, telling
from tests.api.test_hub import GRACE, LATE, in_thread, logged, names, read_rest, running
from tests.conftest import migrate
from tests.eventually import eventually
from tests.jobs.making import PROJECT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def kill(server: EmbeddedValkey) -> None:
    server.kill()


def freeze(server: EmbeddedValkey) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)


def bring_back(server: EmbeddedValkey) -> None:
    if server.pid is None:
        server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("away", [kill, freeze])
async def test_redis_may_go_and_come_back(
    settings: Settings,
    engine: Engine,
    away: Callable[[EmbeddedValkey], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.subscription.QUIET", 0.3)
    with temporary_valkey() as server, telling(server.url) as hints:
        mine = settings.model_copy(update={"broker_url": SecretStr(server.url)})
        story = Story(engine, hints)
        job_id = story.begin()
        async with running(mine) as hub, hub.follow(PROJECT, job_id, 1) as follower:
            got: list[Recorded] = []

            async def seconds_to_next() -> float:
                await in_thread(story.progress, job_id)
                began = time.monotonic()
                got.extend(await follower.read())
                return time.monotonic() - began

            await in_thread(eventually, lambda: listeners(server.url))
            assert min([await seconds_to_next() for _ in range(3)]) < SWEEP_EVERY / 2
            await in_thread(away, server)
            for _ in range(3):
                assert await seconds_to_next() < LATE + GRACE
            await in_thread(bring_back, server)
            await in_thread(eventually, lambda: listeners(server.url))
            delays = [await seconds_to_next() for _ in range(5)]
            assert min(delays) < SWEEP_EVERY / 5, delays
            await in_thread(story.succeed, job_id)
            got.extend(await read_rest(follower))
            assert names(got) == logged(engine, job_id, 1)


async def test_streams_need_no_redis_to_begin(settings: Settings, engine: Engine) -> None:
    nowhere = settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    story = Story(engine)
    job_id = story.begin()
    async with running(nowhere) as hub, hub.follow(PROJECT, job_id, 0) as follower:
        reading = asyncio.create_task(read_rest(follower))
        await in_thread(story.progress, job_id, 3)
        await in_thread(story.succeed, job_id)
        assert names(await reading) == logged(engine, job_id)


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with temporary_postgres() as server:
        migrate(server.url)
        yield server


@pytest.fixture
def mortal(server: EmbeddedPostgres, settings: Settings) -> Settings:
    """Of a database that is the test's to stop."""
    return settings.model_copy(update={"database_url": SecretStr(server.url)})


async def test_postgres_may_be_restarted(server: EmbeddedPostgres, mortal: Settings) -> None:
    engine = database.make_engine(mortal, name="tests", size=2)
    with telling(mortal.broker_url.get_secret_value()) as hints:
        story = Story(engine, hints)
        job_id = story.begin()
        async with (
            running(mortal) as hub,
            hub.follow(PROJECT, job_id, 0) as slow,
            hub.follow(PROJECT, job_id, 0) as quick,
            hub.watch(job_id) as watch,
        ):
            reading = asyncio.create_task(read_rest(quick))
            await in_thread(story.progress, job_id, 2 * PAGE)
            got = await slow.read()
            (feed,) = hub._feeds.values()
            await in_thread(eventually, lambda: feed.newest == 2 * PAGE + 1)
            await in_thread(server.stop)
            assert await slow.read(1.0) == [], "it is behind, and has to wait for the database"
            with pytest.raises(DatabaseUnavailable):
                async with hub.follow(PROJECT, job_id, 0):
                    pass
            waiting = asyncio.create_task(watch.wait(60, 2 * PAGE + 1))
            await in_thread(server.start)
            await in_thread(eventually, lambda: progressed(story, job_id))
            await in_thread(story.succeed, job_id)
            assert await waiting
            expected = logged(engine, job_id)
            assert names(await reading) == expected
            assert names(got + await read_rest(slow)) == expected
    engine.dispose()


def progressed(story: Story, job_id: Any) -> bool:
    story.progress(job_id)
    return True
