"""Transactions of handlers on a real pool: killed at every statement, they are done once."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import NewJob
from tests.eventually import eventually
from tests.worker import blocks
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

pytestmark = pytest.mark.slow
MOMENTS = 20  # of `block.pays`: before and after eight statements and the commit, and two later


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    kinds = (*settings.kinds, "tests.worker.blocks")
    return settings.model_copy(update={"kinds": kinds})


@pytest.fixture(scope="module")
def worker_nodes(settings: Settings, platform: Platform) -> Any:
    """Processes alone: none of these kinds needs threads."""
    platform.execute(blocks.TABLE)
    node = WorkerNode(settings, "prefork")
    yield [node]
    node.teardown()


def payments(platform: Platform, job: NewJob) -> list[str]:
    statement = sa.text("SELECT line FROM shop.payment WHERE job_id = :job ORDER BY line")
    with platform.engine.connect() as connection:
        return [*connection.scalars(statement, {"job": job.id})]


def children(platform: Platform, job: NewJob) -> list[str]:
    statement = sa.text("SELECT args->>'value' FROM job WHERE parent_id = :job ORDER BY 1")
    with platform.engine.connect() as connection:
        return [*connection.scalars(statement, {"job": job.id})]


@pytest.mark.parametrize(
    ("kind", "every"),
    [("block.pays", 1), ("block.pays_async", 3)],  # the second does the same, on another driver
)
@pytest.mark.usefixtures("celery_setup")
def test_a_block_killed_at_any_statement_is_done_once(
    platform: Platform, kind: str, every: int
) -> None:
    unharmed = platform.run(kind, {})
    assert unharmed.result == MOMENTS
    jobs = {at: platform.submit(kind, {"dies_at": at}) for at in range(1, MOMENTS + 1, every)}
    for job in jobs.values():
        platform.ring(job)
    for at, job in jobs.items():
        row = platform.finish(job, within=120)
        assert (at, row.state, row.attempt, row.crashes) == (at, JobState.SUCCEEDED, 2, 1)
        assert (at, payments(platform, job)) == (at, ["first!", "second!"])
        assert (at, children(platform, job)) == (at, ["of the block", "of the handler"])
        assert (at, platform.types(job).count("step")) == (at, 1)


@pytest.mark.usefixtures("celery_setup")
def test_a_stored_step_runs_once_wherever_its_job_dies(platform: Platform, notes: Path) -> None:
    jobs = []
    for first in range(0, blocks.STEPS, 2):  # the third crash would fail a job
        path = notes.with_name(f"steps-{first}")
        args = {"path": str(path), "dies_after": [first, first + 1]}
        jobs.append((path, platform.submit("block.walks", args)))
        platform.ring(jobs[-1][1])
    for path, job in jobs:
        row = platform.finish(job, within=120)
        assert (row.state, row.attempt, row.crashes) == (JobState.SUCCEEDED, 3, 2)
        assert row.result == [*range(blocks.STEPS)]
        assert path.read_text().split() == [str(number) for number in range(blocks.STEPS)]
        assert platform.types(job).count("step") == blocks.STEPS


@pytest.mark.usefixtures("celery_setup")
def test_the_dead_are_replaced_at_once_though_celery_looked_too_early(
    platform: Platform, worker_nodes: list[WorkerNode]
) -> None:
    parent = psutil.Process(worker_nodes[0].pid)
    took = []
    for _ in range(4):  # Celery looks again every 5 s: only the first could be lucky
        before = {child.pid for child in parent.children()}
        began = time.monotonic()
        assert platform.run("block.dies_slowly", {}).crashes == 1
        eventually(lambda: len({child.pid for child in parent.children()} - before) == 1)  # noqa: B023
        took.append(time.monotonic() - began)
    assert sorted(took)[1] < 3.5, took
