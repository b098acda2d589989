"""What is said of a job that waits is why the dispatcher does not ring it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, insert, update
from sqlmodel import col

from jobs import gates
from jobs.errors import JobNotFound
from jobs.explain import Explanation, explain
from jobs.gates import Rate
from jobs.models import Job
from jobs.states import JobState
from jobs.waiting.models import JobDependency
from tests.eventually import eventually
from tests.jobs.making import LEASE, PROJECT, make_job
from tests.jobs.ringing import add_job, add_worker
from tests.jobs.test_flow import KEY_A, KIND, QUEUE, limit, ring, start


def ask(connection: Connection, job_id: UUID) -> Explanation:
    return explain(connection, PROJECT, job_id, LEASE)


def codes(connection: Connection, job_id: UUID) -> list[str]:
    return [reason.code for reason in ask(connection, job_id).reasons]


def pause(connection: Connection) -> None:
    gates.pause(connection, PROJECT, KEY_A, reason="moving", by="Ada")


def fill(connection: Connection) -> None:
    limit(connection, KIND, 1)
    add_job(connection, priority=9)
    [bell] = ring(connection, 1)
    start(connection, bell)


def spend(connection: Connection) -> None:
    limit(connection, QUEUE, None, Rate(1, timedelta(hours=1), 1))
    add_job(connection, priority=9)
    [bell] = ring(connection, 1)
    start(connection, bell)


def wait_for(connection: Connection, parents: list[UUID], **columns: Any) -> UUID:
    columns = {"parents_left": len(parents), **columns}
    job_id = make_job(connection, JobState.WAITING, **columns)
    for parent_id in parents:
        connection.execute(insert(JobDependency).values(job_id=job_id, parent_id=parent_id))
    return job_id


@pytest.mark.parametrize(
    ("keep", "code"), [(pause, "paused"), (fill, "limit-full"), (spend, "rate")]
)
def test_what_keeps_the_dispatcher_is_said(
    connection: Connection, keep: Callable[[Connection], None], code: str
) -> None:
    add_worker(connection)
    keep(connection)
    job_id = add_job(connection, concurrency_key="a")
    assert ring(connection) == []
    assert codes(connection, job_id) == [code]
    for gate in (KEY_A, KIND, QUEUE):
        gates.resume(connection, PROJECT, gate)
        gates.delete_limit(connection, PROJECT, gate)
    assert codes(connection, job_id) == ["in-line"]
    assert len(ring(connection)) == 1
    assert codes(connection, job_id) == ["offered"]


def test_who_holds_the_limit_is_said(connection: Connection) -> None:
    add_worker(connection)
    limit(connection, KEY_A, 1)
    first, second = (add_job(connection, concurrency_key="a") for _ in range(2))
    [bell] = ring(connection)
    start(connection, bell)
    [reason] = ask(connection, second).reasons
    assert reason.facts["held_by"] == [first]
    assert reason.detail.endswith(f"held by {first}")
    assert codes(connection, first) == ["running"]


def test_all_limits_that_keep_a_job_are_said(connection: Connection) -> None:
    add_worker(connection)
    limit(connection, KIND, 1, Rate(1, timedelta(hours=1), 1))
    add_job(connection)
    [bell] = ring(connection, 1)
    start(connection, bell)
    job_id = add_job(connection)
    assert codes(connection, job_id) == ["limit-full", "rate"]
    gates.pause(connection, PROJECT, KIND, reason=None, by="Ada")
    assert codes(connection, job_id) == ["paused", "limit-full", "rate"]


def test_a_rate_whose_starts_are_all_on_offer_says_so(connection: Connection) -> None:
    add_worker(connection)
    limit(connection, KIND, None, Rate(1000, timedelta(seconds=1), 1))
    first, second = add_job(connection), add_job(connection)
    assert len(ring(connection)) == 1
    eventually(lambda: gates.get_gate(connection, PROJECT, KIND).tokens != 0)
    assert codes(connection, first) == ["offered"]
    [reason] = ask(connection, second).reasons
    assert reason.code == "rate"
    assert "1 have been offered" in reason.detail


def test_who_is_waited_for_is_said(connection: Connection) -> None:
    add_worker(connection)
    parents = sorted(make_job(connection, JobState.SCHEDULED) for _ in range(4))
    job_id = wait_for(connection, parents)
    [reason] = ask(connection, job_id).reasons
    assert reason.facts["jobs"] == parents
    first, second, third, _ = parents
    assert reason.detail.endswith(f"4 jobs to succeed: {first}, {second}, {third} and 1 more")
    assert f"/v1/jobs/{first}/explain" in reason.advice


@pytest.mark.parametrize(
    ("left", "wanted"), [(1, ["waits-for", "not-due"]), (0, ["not-due"]), (-1, ["not-due"])]
)
def test_a_waiting_jobs_time_is_said(connection: Connection, left: int, wanted: list[str]) -> None:
    add_worker(connection)
    parents = [make_job(connection, JobState.SCHEDULED)]
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = wait_for(connection, parents, run_at=later, parents_left=left)
    assert codes(connection, job_id) == wanted
    assert "rerun" in ask(connection, job_id).reasons[-1].advice


def test_reasons_come_in_order(connection: Connection) -> None:
    limit(connection, KEY_A, 1)
    pause(connection)
    job_id = add_job(connection, concurrency_key="a")
    assert codes(connection, job_id) == ["paused", "no-worker"]
    add_worker(connection, kinds=["other"])
    assert codes(connection, job_id) == ["paused", "unknown-kind"]
    [reason, _] = ask(connection, job_id).reasons
    assert reason.detail.endswith("by Ada: moving")
    assert "key:a" in reason.advice


def test_a_place_in_the_line_is_counted(connection: Connection) -> None:
    add_worker(connection)
    add_job(connection, priority=3)
    add_job(connection, concurrency_key="b")
    add_job(connection, priority=8)
    assert ask(connection, add_job(connection)).ahead == 2


def test_jobs_of_other_projects_are_not_counted(connection: Connection) -> None:
    add_worker(connection)
    add_job(connection, project_id="another", priority=9)
    add_job(connection, project_id="another", concurrency_key="b", priority=9)
    found = ask(connection, add_job(connection))
    assert found.ahead == 0
    assert found.reasons[0].facts == {"ahead": 0}
    assert found.reasons[0].detail.startswith("0 jobs of its project")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.SCHEDULED, "not-due"),
        (JobState.RETRYING, "not-due"),
        (JobState.RUNNING, "running"),
        (JobState.SUCCEEDED, "succeeded"),
        (JobState.FAILED, "failed"),
        (JobState.CANCELLED, "cancelled"),
        (JobState.WAITING, "waits-for"),
    ],
)
def test_every_state_has_an_answer(connection: Connection, state: JobState, code: str) -> None:
    add_worker(connection)
    if state is JobState.WAITING:
        job_id = wait_for(connection, [make_job(connection, JobState.SCHEDULED)])
    else:
        job_id = make_job(connection, state)
    if state is JobState.RUNNING:
        connection.execute(update(Job).where(col(Job.id) == job_id).values(attempt=3))
    assert codes(connection, job_id) == [code]


def test_what_is_not_there_is_not_explained(connection: Connection) -> None:
    job_id = add_job(connection, project_id="theirs")
    with pytest.raises(JobNotFound):
        ask(connection, job_id)
