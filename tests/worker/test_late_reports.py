"""Reports that come late: after an outage longer than the fence, and after a worker was frozen."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from dev.postgres import EmbeddedPostgres, temporary_postgres
from jobs import lifecycle
from jobs.attempts import Outcome
from jobs.audit import audit
from jobs.settings import Settings
from jobs.states import JobState
from tests.conftest import create_database, migrate
from tests.eventually import eventually
from tests.worker.attempting import outcome_of
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform
from worker.board import ThreadBoard
from worker.runtime import Runtime

LEASE = 7.0  # seconds: the fence after less than five, and who is to be done by then, is


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Not the one that other modules use: this one is stopped and started."""
    with temporary_postgres() as server:
        create_database(server, "migrated")
        migrate(server.url_of("migrated"))
        yield server


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_seconds": LEASE})


@pytest.fixture
def node(settings: Settings, platform: Platform) -> Iterator[WorkerNode]:
    """A prefork worker of two slots."""
    node = WorkerNode(settings, "prefork")
    node.ready()
    yield node
    os.killpg(node.pid, signal.SIGCONT)
    node.teardown()


def test_a_result_outlives_an_outage_that_is_longer_than_the_fence(
    node: WorkerNode, platform: Platform, postgres: EmbeddedPostgres, engine: Engine, tmp_path: Path
) -> None:
    finished, fenced = tmp_path / "finished", tmp_path / "fenced"
    long = platform.start("odd.sleeps_on", {"path": str(fenced), "seconds": 50})
    short = platform.start("odd.sleeps_on", {"path": str(finished), "seconds": 1})
    eventually(finished.exists)
    eventually(fenced.exists)
    children = set(node.children)
    postgres.stop()
    stopped = time.monotonic()
    eventually(lambda: "end" in finished.read_text())  # and its report finds nobody
    (lost,) = eventually(lambda: children - set(node.children), within=LEASE + 30)
    eventually(lambda: time.monotonic() > stopped + LEASE + 1)
    assert str(lost) in fenced.read_text(), "who is done is not ended"
    postgres.start()
    engine.dispose()
    assert platform.finish(short).state is JobState.SUCCEEDED
    assert platform.types(short) == ["created", "started", "succeeded"]
    assert platform.ended(long).crashes == 0
    assert platform.types(long) == ["created", "started", "interrupted"]
    platform.cancel(long)


def test_a_worker_frozen_past_its_lease_finds_its_attempt_lost(
    node: WorkerNode, platform: Platform, settings: Settings, notes: Path
) -> None:
    job = platform.start("test.waits", {"path": str(notes), "seconds": 50})
    eventually(notes.exists)
    os.killpg(node.pid, signal.SIGSTOP)
    eventually(lambda: _rescue(platform.engine, settings), within=LEASE + 30, every=0.2)
    assert platform.attempts(job) == [(1, "crashed", "crashed")]
    Path(f"{notes}.go").touch()
    other = Runtime(settings, platform.registry, uuid4(), ThreadBoard(), forked=False)
    assert outcome_of(other, job, 2) is Outcome.SUCCEEDED
    row, events = platform.row(job), platform.events(job)
    os.killpg(node.pid, signal.SIGCONT)
    lost = [(1, "lease_lost", "crashed"), (2, "succeeded", None)]
    eventually(lambda: platform.attempts(job) == lost, within=30)
    assert (platform.row(job), platform.events(job)) == (row, events)
    assert platform.types(job) == ["created", "started", "crashed", "started", "succeeded"]
    assert (row.state, row.attempt, row.crashes) == (JobState.SUCCEEDED, 2, 1)
    with platform.engine.connect() as connection:
        assert [each for each in audit(connection).findings if each.job_id == job.id] == []
    assert platform.run("test.echo", {"value": 1}).state is JobState.SUCCEEDED


def _rescue(engine: Engine, settings: Settings) -> int:
    """How many jobs a dispatcher would take from their holders now."""
    with engine.begin() as connection:
        return len(lifecycle.rescue(connection, 10, settings.lease))
