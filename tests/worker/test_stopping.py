"""Deploys: what SIGTERM does to a worker and to the attempts that it makes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

POOLS = ["prefork", "threads"]
SIGNALS = [signal.SIGTERM, signal.SIGQUIT]
SLOW = 10.0  # seconds that a machine with other tests on it may take longer


@contextmanager
def worker(settings: Settings, pool: str, **options: int) -> Iterator[WorkerNode]:
    node = WorkerNode(settings, pool, **options)
    try:
        node.ready()
        yield node
    finally:
        node.teardown()


def end(node: WorkerNode, number: int = signal.SIGTERM) -> float:
    """Seconds that the worker took to end after the signal."""
    node.process.send_signal(number)
    begun = time.monotonic()
    node.process.wait(30)
    return time.monotonic() - begun


def count_workers(platform: Platform) -> int:
    with platform.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM worker")).scalar_one())


@pytest.mark.parametrize(("pool", "number"), [*zip(POOLS, SIGNALS, strict=True)])
def test_an_idle_worker_stops_at_once_and_signs_off(
    settings: Settings, platform: Platform, pool: str, number: signal.Signals
) -> None:
    before = count_workers(platform)
    with worker(settings, pool) as node:
        assert count_workers(platform) == before + 1
        assert end(node, number) < 2 + SLOW
        assert node.process.returncode == 0
    assert count_workers(platform) == before


@pytest.mark.parametrize(
    ("pool", "kinds"),
    [
        ("prefork", ("odd.sleeps_on", "test.waits")),
        ("threads", ("odd.sleeps_on_io", "test.waits_io")),
    ],
)
def test_what_ends_in_time_succeeds_and_the_rest_is_interrupted(
    settings: Settings, platform: Platform, tmp_path: Path, pool: str, kinds: tuple[str, str]
) -> None:
    """Two do not end: one that hears of it, and one that hears nothing."""
    slow, patient = kinds
    settings = settings.model_copy(update={"soft_shutdown_seconds": 4.0})
    with worker(settings, pool, slots=3) as node:
        polite, deaf, quick = (
            platform.start(kind, {"path": str(tmp_path / str(index)), "seconds": seconds})
            for index, (kind, seconds) in enumerate([(patient, 50), (slow, 50), (slow, 1.2)])
        )
        assert end(node) < settings.soft_shutdown_seconds + 2 + SLOW
        assert node.process.returncode == 0
    assert platform.types(quick) == ["created", "started", "succeeded"]
    for job in (polite, deaf):
        row = platform.row(job)
        assert (row.state, row.attempt) == (JobState.QUEUED, 1)
        assert (row.failures, row.crashes) == (0, 0)
        assert platform.types(job) == ["created", "started", "interrupted"]
        assert platform.attempts(job) == [(1, "interrupted", None)]
        platform.cancel(job)


def test_a_second_signal_ends_the_patience(
    settings: Settings, platform: Platform, notes: Path
) -> None:
    patient = settings.model_copy(update={"soft_shutdown_seconds": 25.0})
    with worker(patient, "prefork") as node:
        job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 50})
        node.process.send_signal(signal.SIGTERM)
        eventually(lambda: "worker stopping" in node.logs())
        assert platform.row(job).state is JobState.RUNNING
        assert end(node, signal.SIGINT) < 2 + SLOW
    assert platform.types(job)[-1] == "interrupted"
    platform.cancel(job)


def test_a_signal_for_the_whole_group_interrupts_what_runs(
    settings: Settings, platform: Platform, notes: Path
) -> None:
    """As an init system sends it that tells each process to stop."""
    with worker(settings, "prefork") as node:
        job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 50})
        eventually(notes.exists)
        os.killpg(node.pid, signal.SIGTERM)
        assert node.process.wait(30) == 0
    assert platform.row(job).crashes == 0
    assert platform.types(job) == ["created", "started", "interrupted"]
    platform.cancel(job)


def test_bells_that_were_not_begun_are_heard_by_the_next_worker(
    settings: Settings, platform: Platform, notes: Path
) -> None:
    patient = settings.model_copy(update={"soft_shutdown_seconds": 25.0})
    with worker(patient, "threads", slots=1) as node:
        first = platform.start("odd.waits_deafly_io", {"path": str(notes), "seconds": 50})
        second = platform.submit("test.echo_io", {"value": 2})
        platform.ring(second)
        eventually(lambda: platform.broker.queue_length("io") == 0)
        node.process.send_signal(signal.SIGTERM)
        eventually(lambda: "worker stopping" in node.logs())
        Path(f"{notes}.go").touch()
        node.process.wait(40)
    assert platform.row(first).state is JobState.SUCCEEDED
    assert platform.broker.queue_length("io") == 1
    with worker(settings, "threads", slots=1):
        assert platform.finish(second).result == 2
