"""Cancel requests: heard at once by a hint, else at the next beat; who does not heed one is ended.

The beat is far apart here, so what is quick came by a hint.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs import lifecycle
from jobs.hints import Hints
from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import NewJob
from tests.eventually import eventually
from tests.worker.nodes import WorkerNode
from tests.worker.platform import PROJECT, Platform

LEASE = 144.0  # seconds: a beat every 24
GRACE = 2.0  # seconds: who listens is not killed because the machine stands still for a moment
SOON = 12.0  # seconds: half a beat, and what a busy machine may need where 0.3 are the rule

POOLS = {"prefork": "test.waits", "threads": "test.waits_io"}


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    kinds = (*settings.kinds, "tests.worker.kinds_to_end")
    return settings.model_copy(
        update={"lease_seconds": LEASE, "cancel_grace_seconds": GRACE, "kinds": kinds}
    )


@pytest.fixture(scope="module", params=["prefork", "threads"])
def node(request: pytest.FixtureRequest, settings: Settings) -> Iterator[WorkerNode]:
    node = WorkerNode(settings, request.param)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture(scope="module")
def hints(settings: Settings) -> Iterator[Hints]:
    hints = Hints(settings.broker_url.get_secret_value())
    yield hints
    hints.close()


def cancel(platform: Platform, hints: Hints, job: NewJob) -> float:
    """As the API does it. When that was, by the monotonic clock."""
    asked = time.monotonic()
    with platform.engine.begin() as connection:
        moved = lifecycle.cancel(connection, PROJECT, job.id, "not wanted")
    assert moved is not None
    hints.tell([moved])
    return asked


prefork = pytest.mark.parametrize("node", ["prefork"], indirect=True)
threads = pytest.mark.parametrize("node", ["threads"], indirect=True)


def test_a_handler_that_listens_hears_a_hint_at_once(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path
) -> None:
    job = platform.start(POOLS[node.pool], {"path": str(notes), "seconds": 50})
    asked = cancel(platform, hints, job)
    assert platform.ended(job).state is JobState.CANCELLED
    assert time.monotonic() - asked < SOON
    assert platform.attempts(job) == [(1, "cancelled", None)]
    assert "killing" not in node.logs()


@prefork
@pytest.mark.parametrize("kind", ["odd.shows_progress", "odd.waits_in_a_process"])
def test_progress_and_awaits_of_a_pool_process_hear_it_too(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path, kind: str
) -> None:
    job = platform.start(kind, {"path": str(notes), "seconds": 50})
    asked = cancel(platform, hints, job)
    assert platform.ended(job).state is JobState.CANCELLED
    assert time.monotonic() - asked < SOON
    assert "killing" not in node.logs()


@prefork
def test_who_does_not_heed_it_is_killed_after_the_grace_and_the_worker_lives(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path, tmp_path: Path
) -> None:
    neighbour = platform.start("test.waits", {"path": str(tmp_path / "other"), "seconds": 50})
    job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 50})
    before = set(node.children)
    asked = cancel(platform, hints, job)
    row = platform.ended(job)
    assert GRACE <= time.monotonic() - asked < GRACE + SOON
    assert (row.state, row.crashes, row.failures) == (JobState.CANCELLED, 0, 0)
    assert platform.events(job)[-1] == ("cancelled", {"reason": "not wanted"})
    assert platform.attempts(job) == [(1, "cancelled", None)]
    eventually(lambda: len(set(node.children) - before) == 1 and len(node.children) == 2)
    (tmp_path / "other.go").touch()
    assert platform.finish(neighbour).result == "went"
    assert platform.types(neighbour) == ["created", "started", "succeeded"]


@threads
def test_on_threads_a_deaf_handler_runs_on_and_its_job_ends_with_it(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path
) -> None:
    job = platform.start("odd.fails_late_io", {"path": str(notes), "seconds": GRACE + 1})
    cancel(platform, hints, job)
    assert platform.ended(job).state is JobState.CANCELLED
    assert notes.read_text().endswith("end\n")


@prefork
def test_success_counts_more_than_a_request(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path
) -> None:
    job = platform.start("odd.waits_deafly", {"path": str(notes), "seconds": 50})
    cancel(platform, hints, job)
    Path(f"{notes}.go").touch()
    assert platform.ended(job).state is JobState.SUCCEEDED
    assert platform.attempts(job) == [(1, "succeeded", None)]


@prefork
def test_a_request_for_an_earlier_attempt_does_not_reach_the_next_one(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path, settings: Settings
) -> None:
    job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": GRACE + 3})
    cancel(platform, hints, job)
    assert platform.ended(job).state is JobState.CANCELLED
    with platform.engine.begin() as connection:
        lifecycle.retry(connection, PROJECT, job.id)
    platform.ring(job, 2)
    eventually(lambda: "start 2" in notes.read_text())
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as client:
        for said in (f"{job.id}:1", f"{job.id}:2", "nonsense", f"{job.id}:two"):
            client.publish("lading:cancel", said)
    assert platform.finish(job).state is JobState.SUCCEEDED
    assert platform.attempts(job) == [(1, "cancelled", None), (2, "succeeded", None)]


@prefork
def test_one_process_makes_another_attempt_after_a_cancelled_one(
    node: WorkerNode, platform: Platform, hints: Hints, notes: Path, tmp_path: Path
) -> None:
    """Each of the two has been told of a request; the grace of neither strikes the next attempt."""
    before = node.children
    for index in range(2):
        job = platform.start("test.waits", {"path": str(tmp_path / f"a{index}"), "seconds": 50})
        cancel(platform, hints, job)
        assert platform.ended(job).state is JobState.CANCELLED
    later = [
        platform.start("odd.sleeps_on", {"path": str(tmp_path / f"b{index}"), "seconds": GRACE + 1})
        for index in range(2)
    ]
    assert [platform.ended(job).state for job in later] == [JobState.SUCCEEDED] * 2
    assert node.children == before
