"""Limited jobs between a real dispatcher and a real worker."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from sqlalchemy import Engine, text

from jobs.broker import Bell
from jobs.hints import WAKE
from jobs.settings import Settings
from jobs.submissions import Concurrency
from tests.eventually import eventually
from tests.worker.dispatcher.conftest import running
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

pytestmark = pytest.mark.slow
JOBS, AT_A_TIME = 12, 2


@pytest.fixture(scope="module")
def node(settings: Settings, platform: Platform) -> Iterator[WorkerNode]:
    node = WorkerNode(settings, "prefork", slots=3)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture
def woken(settings: Settings) -> Iterator[redis.client.PubSub]:
    """What is said to dispatchers."""
    client = redis.Redis.from_url(settings.broker_url.get_secret_value())
    with client.pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(WAKE)
        assert heard.get_message(timeout=30)
        yield heard
    client.close()


def test_the_end_of_a_limited_attempt_wakes_the_dispatcher_and_no_other_end_does(
    platform: Platform, node: WorkerNode, woken: redis.client.PubSub
) -> None:
    key = Concurrency(f"key-{uuid4()}", 1)
    for is_limited in (False, True):
        job = platform.submit("test.echo", {"value": 1}, concurrency=key if is_limited else None)
        platform.execute("UPDATE job SET rung_at = clock_timestamp() WHERE id = :id", id=job.id)
        bell = Bell(job.queue, job.kind, ((job.id, 1),), job.priority, is_limited)
        platform.broker.ring([bell])
        platform.ended(job, within=40)
    message = woken.get_message(timeout=30)
    assert message is not None
    assert message["data"] == b"default"
    assert woken.get_message(timeout=0.5) is None


def test_no_more_run_at_a_time_than_the_limit_lets_and_all_of_them_end(
    platform: Platform, node: WorkerNode, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    key = Concurrency(f"key-{uuid4()}", AT_A_TIME)
    kind, args = "demo.sleep", {"seconds": 0.3, "steps": 1}
    jobs = [platform.submit(kind, args, concurrency=key).id for _ in range(JOBS)]

    def spans() -> list[tuple[datetime, datetime]]:
        query = text("SELECT started_at, finished_at FROM job_attempt WHERE job_id = ANY (:ids)")
        with engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(query, {"ids": jobs})]

    with running(settings, engine, tmp_path):
        eventually(lambda: len(spans()) == JOBS, within=60)
    steps = sorted([(end, -1) for _, end in spans()] + [(start, 1) for start, _ in spans()])
    at_once = [sum(step for _, step in steps[:number]) for number in range(1, len(steps) + 1)]
    assert max(at_once) == AT_A_TIME
