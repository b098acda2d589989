"""The watch's last look: what Celery's pool left behind is reported before the worker goes."""

import math
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import psutil
import pytest
from celery.platforms import EX_FAILURE
from sqlalchemy import Engine

from jobs import lifecycle
from jobs.settings import Settings
from jobs.submissions import NewJob
from tests.eventually import eventually
from tests.worker.platform import Platform
from worker.board import Running, ThreadBoard
from worker.reports import Reports
from worker.verdicts import CANCELLED, LOST
from worker.watch import ProcessWatch

WORKER = uuid4()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Stands for a pool process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_still_stands_when_the_pool_has_gone_is_reported(
    is_killed: bool,
    child: subprocess.Popen[bytes],
    settings: Settings,
    platform: Platform,
    engine: Engine,
) -> None:
    job = platform.submit("test.echo")
    with engine.begin() as connection:
        lifecycle.start(connection, job.id, attempt=1, worker=WORKER, lease=settings.lease)
    board, reports = ThreadBoard(), Reports(settings, platform.registry, WORKER)
    board.write(Running(child.pid, job.id, 1, time.monotonic(), math.inf, is_claimed=True))
    watch = ProcessWatch(settings, board, reports, lambda: None)
    if is_killed:  # by Celery, which waits for nobody when it stops
        child.terminate()
    watch.close()
    assert reports.drain(30)
    assert platform.types(job)[-1] == "interrupted"
    assert child.wait(30) < 0


@dataclass
class Stage:
    """A watch over one attempt, which the child stands for; no grace for cancel requests."""

    watch: ProcessWatch
    board: ThreadBoard
    running: Running
    job: NewJob


@pytest.fixture
def stage(
    child: subprocess.Popen[bytes], settings: Settings, platform: Platform, engine: Engine
) -> Iterator[Stage]:
    job = platform.submit("test.echo")
    with engine.begin() as connection:
        lifecycle.start(connection, job.id, attempt=1, worker=WORKER, lease=settings.lease)
    board, reports = ThreadBoard(), Reports(settings, platform.registry, WORKER)
    running = Running(child.pid, job.id, 1, time.monotonic(), math.inf, is_claimed=True)
    board.write(running)
    strict = settings.model_copy(update={"cancel_grace_seconds": 0.0})
    watch = ProcessWatch(strict, board, reports, lambda: None)
    yield Stage(watch, board, running, job)
    watch.close()
    assert reports.drain(30)
    platform.cancel(job)


def test_an_attempt_that_does_not_heed_a_request_is_ended(
    stage: Stage, child: subprocess.Popen[bytes], platform: Platform
) -> None:
    stage.watch.begin(lambda: None)
    stage.watch.cancel(stage.running)
    assert child.wait(30) == -signal.SIGKILL
    eventually(lambda: platform.attempts(stage.job) == [(1, "cancelled", None)])


def test_a_watch_that_has_nothing_to_watch_is_woken_by_an_attempt(
    stage: Stage, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.watch.LOOK_IDLE", 3600.0)
    stage.board.erase(stage.running)
    stage.watch.begin(lambda: None)
    stage.board.write(stage.running)
    stage.watch.cancel(stage.running)
    stage.watch.hurry()
    assert child.wait(30) == -signal.SIGKILL


def test_an_attempt_that_reports_is_left_in_peace(
    stage: Stage, child: subprocess.Popen[bytes]
) -> None:
    stage.board.write(stage.running._replace(is_reporting=True))
    stage.watch.begin(lambda: None)
    stage.watch.cancel(stage.running)
    eventually(lambda: stage.board.heard(*stage.running.key).is_cancelled)
    stage.watch.end(stage.running, CANCELLED)  # as it stood a moment ago
    assert child.poll() is None


def test_another_attempt_in_the_same_process_is_not_ended(
    stage: Stage, child: subprocess.Popen[bytes]
) -> None:
    stage.board.erase(stage.running)
    stage.board.write(stage.running._replace(job_id=uuid4()))
    stage.watch.end(stage.running, CANCELLED)
    assert child.poll() is None
    assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED


def test_a_report_is_waited_for_though_another_attempt_is_to_follow(
    stage: Stage, child: subprocess.Popen[bytes], platform: Platform
) -> None:
    following = platform.submit("test.echo")
    stage.board.write(stage.running._replace(is_reporting=True))
    stage.board.write(Running(child.pid, following.id, 1, time.monotonic(), math.inf))
    stage.watch.stop_now()
    assert [stage.watch._judge(each, time.monotonic()) for each in stage.board.running()] == [
        None,
        None,
    ]
    platform.cancel(following)


def test_what_is_ended_for_another_attempts_sake_has_not_crashed(
    stage: Stage, child: subprocess.Popen[bytes], platform: Platform
) -> None:
    stage.board.write(stage.running._replace(is_reporting=True))
    following = Running(child.pid, uuid4(), 1, time.monotonic(), math.inf)
    stage.board.write(following)
    stage.watch.begin(lambda: None)
    stage.watch.end(following, LOST)
    assert child.wait(30) == -signal.SIGKILL
    eventually(lambda: platform.attempts(stage.job) == [(1, "interrupted", None)])


class _Broken(ThreadBoard):
    """Says nothing that can be read."""

    def running(self) -> list[Running]:
        raise ValueError


def test_a_worker_that_nobody_watches_ends(settings: Settings, platform: Platform) -> None:
    def live_on() -> None:
        reports = Reports(settings, platform.registry, WORKER)
        watch = ProcessWatch(settings, _Broken(), reports, lambda: None)
        watch.begin(lambda: None)
        time.sleep(60)

    worker = multiprocessing.get_context("fork").Process(target=live_on)
    worker.start()
    worker.join(50)
    assert worker.exitcode == EX_FAILURE
