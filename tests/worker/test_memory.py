"""Memory: limits that are kept, and what the story of each attempt says it took."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import NewJob
from tests.eventually import eventually
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

MEBIBYTE = 1024 * 1024
LIMIT = 96  # mebibytes, of odd.grows


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"kinds": (*settings.kinds, "tests.worker.kinds_to_end")})


@pytest.fixture(scope="module")
def node(settings: Settings) -> Iterator[WorkerNode]:
    """One process, so that attempts follow each other in it."""
    node = WorkerNode(settings, "prefork", slots=1)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    return {"path": str(tmp_path / "notes"), "seconds": 30}


pytestmark = pytest.mark.usefixtures("node")


def usage(platform: Platform, job: NewJob) -> list[sa.Row[Any]]:
    """Of its attempts, in order."""
    statement = sa.text(
        "SELECT outcome, cause, max_rss_bytes / 1048576 AS peak, cpu_seconds"
        " FROM job_attempt WHERE job_id = :id ORDER BY attempt"
    )
    with platform.engine.connect() as connection:
        return [*connection.execute(statement, {"id": job.id})]


@pytest.mark.parametrize("kind", ["odd.grows", "odd.grows_elsewhere"])
def test_an_attempt_over_its_limit_is_ended_as_a_crash_for_memory(
    platform: Platform, asked: dict[str, Any], kind: str
) -> None:
    job = platform.submit(kind, {**asked, "mebibytes": 3 * LIMIT})
    platform.ring(job)
    row = platform.ended(job)
    assert (row.state, row.crashes, row.failures) == (JobState.QUEUED, 1, 0)
    type_, data = platform.events(job)[-1]
    assert (type_, data["cause"]) == ("crashed", "memory")
    assert data["detail"].startswith("it took ")
    assert data["detail"].endswith(" MiB of memory; its limit is 96 MiB")
    (attempt,) = usage(platform, job)
    assert (attempt.outcome, attempt.cause) == ("crashed", "memory")
    assert attempt.peak > LIMIT
    platform.cancel(job)


def test_the_third_time_fails_the_job_for_memory(platform: Platform, asked: dict[str, Any]) -> None:
    row = platform.run("odd.grows", {**asked, "mebibytes": 2 * LIMIT})
    assert (row.state, row.crashes, row.attempt) == (JobState.FAILED, 3, 3)
    assert row.error["cause"] == "memory"


def test_what_stays_below_its_limit_succeeds_whatever_ran_there_before(
    platform: Platform, asked: dict[str, Any]
) -> None:
    """And its peak is its own, not that of the greater one before it."""
    large = platform.submit("odd.grows_freely", {**asked, "mebibytes": 6 * LIMIT, "seconds": 0})
    assert platform.finish(large).state is JobState.SUCCEEDED
    small = platform.submit("odd.grows", {**asked, "mebibytes": LIMIT // 2, "seconds": 0.5})
    assert platform.finish(small).state is JobState.SUCCEEDED
    assert usage(platform, large)[0].peak > 6 * LIMIT
    assert LIMIT // 2 < usage(platform, small)[0].peak < 5 * LIMIT


def test_a_process_of_the_handlers_counts_in_its_peak(
    platform: Platform, asked: dict[str, Any]
) -> None:
    job = platform.submit("odd.grows_elsewhere", {**asked, "mebibytes": LIMIT // 2, "seconds": 0})
    assert platform.finish(job).state is JobState.SUCCEEDED
    quick = platform.submit("test.echo")
    platform.finish(quick)
    assert usage(platform, job)[0].peak > LIMIT // 2
    assert usage(platform, job)[0].cpu_seconds > usage(platform, quick)[0].cpu_seconds


def test_what_a_handler_has_started_ends_with_it(platform: Platform, asked: dict[str, Any]) -> None:
    job = platform.start("odd.leaves_a_process", asked, timeout=timedelta(seconds=4))
    child = eventually(lambda: _pid(asked))
    assert platform.ended(job).failures == 1
    eventually(lambda: not _lives(child))
    platform.cancel(job)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_of_an_attempt_whose_process_died_is_known_what_it_took(
    platform: Platform, asked: dict[str, Any], number: int
) -> None:
    job = platform.start("odd.grows_freely", {**asked, "mebibytes": 2 * LIMIT})
    os.kill(eventually(lambda: _pid(asked)), number)
    platform.ended(job)
    (attempt,) = usage(platform, job)
    assert attempt.peak >= 2 * LIMIT
    assert 0 < attempt.cpu_seconds < 20
    platform.cancel(job)


def test_of_an_attempt_that_died_at_once_is_known_what_its_process_was(platform: Platform) -> None:
    job = platform.submit("odd.vanishes")
    platform.ring(job)
    platform.ended(job)
    assert 20 < usage(platform, job)[0].peak < 1000
    platform.cancel(job)


def _pid(asked: dict[str, Any]) -> int:
    """That the handler has written down; 0: not yet."""
    said = Path(asked["path"])
    return int(said.read_text()) if said.exists() and said.read_text().endswith("\n") else 0


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
