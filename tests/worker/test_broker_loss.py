"""A broker that dies: what runs goes on, is watched and reported; what comes runs afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually, soon
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

KINDS = {"prefork": "odd.sleeps_on", "threads": "odd.sleeps_on_io"}
ECHOES = {"prefork": "test.echo", "threads": "test.echo_io"}


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    """Not the one that other modules use: this one is killed."""
    with temporary_valkey() as server:
        yield server


@pytest.fixture(scope="module", params=["prefork", "threads"])
def node(request: pytest.FixtureRequest, settings: Settings) -> Iterator[WorkerNode]:
    node = WorkerNode(settings, request.param)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture
def no_broker(valkey: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Killed in the test, and back after it."""
    yield valkey
    if valkey.pid is None:
        valkey.start()


def test_attempts_end_and_bells_are_heard_again(
    node: WorkerNode, platform: Platform, no_broker: EmbeddedValkey, notes: Path
) -> None:
    job = platform.start(KINDS[node.pool], {"path": str(notes), "seconds": 1})
    no_broker.kill()
    assert platform.ended(job).state is JobState.SUCCEEDED
    later = platform.submit(ECHOES[node.pool], {"value": 1})
    no_broker.start()
    assert platform.finish(later).state is JobState.SUCCEEDED
    assert node.status == "running"


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_a_crash_is_told_at_once_without_a_broker(
    node: WorkerNode, platform: Platform, no_broker: EmbeddedValkey, tmp_path: Path
) -> None:
    running = {
        tmp_path / name: platform.start(
            "odd.sleeps_on", {"path": f"{tmp_path / name}", "seconds": 50}
        )
        for name in ("one", "other")
    }
    for notes in running:
        eventually(lambda n=notes: n.exists() and "start" in n.read_text())  # type: ignore[misc]
    no_broker.kill()
    eventually(lambda: "Connection" in node.logs())
    left = [*running]

    def seconds_to_tell() -> float:
        notes = left.pop()
        os.kill(int(notes.read_text().split()[2]), signal.SIGKILL)
        killed = time.monotonic()
        assert platform.ended(running[notes]).crashes == 1
        return time.monotonic() - killed

    soon(seconds_to_tell, below=3, tries=len(left))
    for job in running.values():
        platform.cancel(job)


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_a_limit_holds_without_a_broker(
    node: WorkerNode, platform: Platform, no_broker: EmbeddedValkey, notes: Path
) -> None:
    eventually(lambda: platform.run("test.echo").state is JobState.SUCCEEDED)
    job = platform.start("test.deaf", {"path": str(notes), "seconds": 50}, max_attempts=1)
    no_broker.kill()
    row = platform.ended(job)
    assert (row.state, row.error["cause"]) == (JobState.FAILED, "timeout")
    assert (row.finished_at - row.started_at).total_seconds() < 10  # it would stay for 50


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_a_cancel_is_heard_at_the_next_beat_without_a_broker(
    node: WorkerNode, platform: Platform, no_broker: EmbeddedValkey, notes: Path
) -> None:
    eventually(lambda: platform.run("test.echo").state is JobState.SUCCEEDED)
    job = platform.start("test.waits", {"path": str(notes), "seconds": 50})
    no_broker.kill()
    platform.cancel(job)
    assert platform.ended(job).state is JobState.CANCELLED
    assert platform.attempts(job) == [(1, "cancelled", None)]


def test_a_worker_stops_without_a_broker(
    node: WorkerNode,
    settings: Settings,
    platform: Platform,
    no_broker: EmbeddedValkey,
    notes: Path,
) -> None:
    eventually(lambda: platform.run(ECHOES[node.pool]).state is JobState.SUCCEEDED)
    job = platform.start(KINDS[node.pool], {"path": str(notes), "seconds": 50})
    eventually(lambda: notes.exists() and "start" in notes.read_text())
    no_broker.kill()
    node.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    node.process.wait(30)
    assert time.monotonic() - begun < settings.soft_shutdown_seconds + 12
    assert platform.types(job)[-1] == "interrupted"
    platform.cancel(job)
    no_broker.start()
    node.restart()
