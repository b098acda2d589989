"""What dies comes back, and nothing that was accepted is lost."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform import Platform
from tests.eventually import eventually

LEASE = 10  # seconds: short, and longer than a busy machine stands still


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """One per test: these tests are hard on it."""
    started = Platform(tmp_path, {"LADING_LEASE_SECONDS": str(LEASE)}).start()
    yield started
    left = started.stop(signal.SIGTERM)
    started.remove()
    assert left == []


def test_jobs_outlive_the_broker_the_api_and_the_dispatcher(platform: Platform) -> None:
    redis = platform.dev["pids"]["redis"]
    os.kill(redis, signal.SIGKILL)
    accepted = [platform.submit("test.echo", {"value": n})["id"] for n in range(5)]
    for name in ("api", "dispatcher"):
        platform.kill(name)
    accepted += [platform.submit("test.echo_io", {"value": n})["id"] for n in range(5)]
    assert {platform.finished(job_id)["state"] for job_id in accepted} == {"succeeded"}


def test_a_killed_worker_costs_its_job_one_crash(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "starts"
    job_id = platform.submit("test.waits", {"path": str(path), "seconds": 60})["id"]
    eventually(path.exists, within=30)
    platform.kill("worker")
    eventually(lambda: path.read_text().splitlines() == ["start 1", "start 2"], within=90)
    Path(f"{path}.go").touch()
    job = platform.finished(job_id)
    assert (job["state"], job["attempt"], job["crashes"]) == ("succeeded", 2, 1)


def test_a_stop_interrupts_and_the_next_start_goes_on(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "starts"
    done = platform.run("test.echo", {"value": "kept"})
    job_id = platform.submit("test.waits", {"path": str(path), "seconds": 60})["id"]
    eventually(path.exists, within=30)
    assert platform.stop() == []
    assert not platform.record.exists()

    platform.start()
    eventually(lambda: path.read_text().splitlines() == ["start 1", "start 2"], within=60)
    Path(f"{path}.go").touch()
    job = platform.finished(job_id)
    assert (job["state"], job["failures"], job["crashes"]) == ("succeeded", 0, 0)
    with platform.client() as client:
        assert client.get(f"/v1/jobs/{done['id']}").json()["result"] == "kept"
        events = client.get(f"/v1/jobs/{job_id}/events").json()["items"]
    assert "interrupted" in [event["type"] for event in events]
