"""Time limits, dying processes and cancel requests, on both pools."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_celery import CeleryTestSetup

from jobs import lifecycle
from jobs.broker import Bell
from jobs.queries import list_attempts
from jobs.states import JobState
from tests.eventually import eventually, soon
from tests.worker.platform import PROJECT, Platform

pytestmark = pytest.mark.usefixtures("celery_setup")
LIMIT = timedelta(seconds=6)  # a tenth of it is the time between the word and the deed
TOLD = {
    "test.too_long": "JobTimeout",
    "odd.too_long_async": "CancelledError",
    "odd.too_long_io": "CancelledError",
}


def test_a_handler_is_told_before_its_limit(platform: Platform, tmp_path: Path) -> None:
    """On processes, sync and async, on a thread, and on one where it has to ask."""
    kinds = (*TOLD, "odd.checks_thread")
    jobs = {
        kind: platform.submit(kind, {"path": str(tmp_path / kind), "seconds": 20}, timeout=LIMIT)
        for kind in kinds
    }
    for job in jobs.values():
        platform.ring(job)
    for job in jobs.values():
        row = platform.finish(job)
        assert (row.state, row.error["cause"], row.crashes) == (JobState.FAILED, "timeout", 0)
        assert row.error["message"] == "it took longer than 6 s"
    assert {kind: (tmp_path / kind).read_text().strip() for kind in TOLD} == TOLD


def test_a_handler_that_does_not_listen_is_ended_at_its_limit(
    platform: Platform, notes: Path, celery_setup: CeleryTestSetup
) -> None:
    def seconds_to_its_end() -> float:
        before = set(celery_setup.worker.container.children)
        row = platform.run("test.deaf", {"path": str(notes), "seconds": 20})
        assert (row.state, row.error["cause"], row.crashes) == (JobState.FAILED, "timeout", 0)
        eventually(lambda: len(before - set(celery_setup.worker.container.children)) == 1)
        took: float = (row.finished_at - row.started_at).total_seconds()
        assert took >= 1
        return took

    soon(seconds_to_its_end, below=3)


def test_a_coroutine_that_does_not_listen_is_left_alone(platform: Platform, notes: Path) -> None:
    job = platform.submit("odd.deaf_io", {"path": str(notes), "seconds": 4})
    row = platform.finish(job)
    assert (row.state, row.error["cause"]) == (JobState.FAILED, "timeout")
    assert platform.run("test.echo_io", {"value": 1}).state is JobState.SUCCEEDED


def test_an_overrun_is_retried_by_the_policy(platform: Platform, notes: Path) -> None:
    job = platform.submit("test.deaf", {"path": str(notes), "seconds": 20}, max_attempts=2)
    row = platform.finish(job)
    assert (row.state, row.failures) == (JobState.FAILED, 2)
    assert platform.attempts(job) == [(1, "retried", "timeout"), (2, "failed", "timeout")]


def test_a_killed_process_is_a_crash_that_is_told_at_once(
    platform: Platform, tmp_path: Path
) -> None:
    def seconds_to_tell() -> float:
        notes = tmp_path / uuid4().hex
        job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 60})
        os.kill(_pid(notes), signal.SIGKILL)
        killed = time.monotonic()
        row = platform.ended(job)
        took = time.monotonic() - killed
        assert (row.state, row.crashes, row.failures) == (JobState.QUEUED, 1, 0)
        cause = {"cause": "crashed", "detail": "its process died: signal 9 (SIGKILL)"}
        assert platform.events(job)[-1] == ("crashed", cause)
        platform.cancel(job)
        return took

    soon(seconds_to_tell, below=2)


def test_an_exit_of_the_process_is_a_crash_with_its_code(platform: Platform) -> None:
    job = platform.submit("odd.vanishes")
    platform.ring(job)
    platform.ended(job)
    assert platform.events(job)[-1][1]["detail"] == "its process died: exitcode 3"
    platform.cancel(job)


def test_a_native_crash_tells_its_signal_and_the_log_where_it_was(
    platform: Platform, celery_setup: CeleryTestSetup
) -> None:
    job = platform.submit("odd.segfaults")
    platform.ring(job)
    platform.ended(job)
    assert platform.types(job) == ["created", "started", "log", "crashed"]
    assert platform.events(job)[-1][1]["detail"] == "its process died: signal 11 (SIGSEGV)"
    celery_setup.worker.assert_log_exists("in segfaults", timeout=40)
    with platform.engine.connect() as connection:
        (attempt,) = list_attempts(connection, PROJECT, job.id)
    assert [line["message"] for line in attempt.last_logs] == ["into the dark"]
    assert attempt.max_rss_bytes
    platform.cancel(job)


def test_the_third_crash_fails_the_job(platform: Platform, notes: Path) -> None:
    job = platform.submit("test.dies", {"path": str(notes), "times": 9})
    row = platform.finish(job)
    assert (row.state, row.crashes, row.failures, row.attempt) == (JobState.FAILED, 3, 0, 3)
    assert row.error["cause"] == "crashed"
    assert [outcome for _, outcome, _ in platform.attempts(job)] == ["crashed"] * 3


def test_after_a_crash_the_job_runs_again(platform: Platform, notes: Path) -> None:
    row = platform.run("test.dies", {"path": str(notes), "times": 2})
    assert (row.state, row.result, row.crashes) == (JobState.SUCCEEDED, 3, 2)


def test_what_is_left_of_a_list_when_its_process_dies_has_not_begun(
    platform: Platform, notes: Path
) -> None:
    deaths = (0, 1, 0, 0)  # of each one's first attempts
    jobs = [platform.submit("test.dies", {"path": str(notes), "times": n}) for n in deaths]
    first, dying, *rest = jobs
    attempts = tuple((job.id, 1) for job in jobs)
    platform.broker.ring([Bell("default", "test.dies", attempts, 5)])
    row = platform.ended(dying, within=60)
    assert (row.state, row.attempt, row.crashes) == (JobState.QUEUED, 1, 1)
    for job in jobs:  # which rings for what nobody has rung for alone
        assert platform.finish(job).state is JobState.SUCCEEDED
    assert platform.attempts(dying) == [(1, "crashed", "crashed"), (2, "succeeded", None)]
    assert platform.attempts(first) == [(1, "succeeded", None)]
    for job in rest:  # claimed with the others of a handful, or not at all
        *before, last = [outcome for _, outcome, _ in platform.attempts(job)]
        assert last == "succeeded"
        assert before in ([], ["interrupted"])
        assert platform.row(job).crashes == 0
    assert len(notes.read_text().splitlines()) == len(jobs) + 1  # none was made twice but one


def test_a_process_that_alone_is_told_to_stop_has_crashed(platform: Platform, notes: Path) -> None:
    """Else a handler that does so to itself would be tried for ever."""
    job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 60})
    os.kill(_pid(notes), signal.SIGTERM)
    row = platform.ended(job)
    assert (row.state, row.crashes) == (JobState.QUEUED, 1)
    type_, data = platform.events(job)[-1]
    assert (type_, data["cause"]) == ("crashed", "crashed")
    assert "SIGTERM" in data["detail"]
    platform.cancel(job)


def test_a_bell_for_what_runs_already_is_dropped(platform: Platform, notes: Path) -> None:
    job = platform.start("test.waits", {"path": str(notes), "seconds": 60})
    platform.ring(job, 1)
    eventually(lambda: platform.broker.queue_length("default") == 0)
    platform.run("test.echo")
    Path(f"{notes}.go").touch()
    assert platform.finish(job).result == "went"
    assert platform.types(job) == ["created", "started", "succeeded"]


@pytest.mark.parametrize("kind", ["test.waits", "test.waits_io"])
def test_a_cancel_reaches_a_running_handler(platform: Platform, notes: Path, kind: str) -> None:
    job = platform.start(kind, {"path": str(notes), "seconds": 60})
    platform.cancel(job, "changed my mind")
    row = platform.finish(job)
    assert row.state is JobState.CANCELLED
    assert platform.events(job)[-1] == ("cancelled", {"reason": "changed my mind"})
    assert platform.attempts(job) == [(1, "cancelled", None)]


def test_a_handler_that_ends_well_after_a_cancel_request_succeeds(
    platform: Platform, notes: Path
) -> None:
    job = platform.start("odd.waits_deafly", {"path": str(notes), "seconds": 50})
    platform.cancel(job)
    Path(f"{notes}.go").touch()
    assert platform.finish(job).state is JobState.SUCCEEDED


@pytest.mark.parametrize(("kind", "node"), [("odd.sleeps_on", 0), ("test.waits_io", 1)])
def test_an_attempt_that_lost_its_job_is_ended_and_changes_nothing(
    platform: Platform, notes: Path, celery_setup: CeleryTestSetup, kind: str, node: int
) -> None:
    job = platform.start(kind, {"path": str(notes), "seconds": 60})
    with platform.engine.begin() as connection:  # as a rescue after a long pause would
        lifecycle.interrupt(connection, job.id, attempt=1, reason="taken away")
    ended = ("killing a pool process", "job lost by its attempt")[node]
    celery_setup.worker_cluster[node].assert_log_exists(ended, timeout=40)
    assert platform.row(job).state is JobState.QUEUED
    assert platform.types(job) == ["created", "started", "interrupted"]
    platform.cancel(job)


def _pid(notes: Path) -> int:
    """Of the process that makes the attempt."""
    eventually(notes.exists)
    return int(eventually(notes.read_text).split()[2])
