"""What is said of a job that waits is why the dispatcher does not ring it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, update
from sqlmodel import col

from jobs import gates
from jobs.errors import JobNotFound
from jobs.explain import Explanation, explain
from jobs.gates import Rate
from jobs.models import Job
from jobs.states import JobState
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
    assert codes(connection, first) == ["running"]


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
    columns: dict[str, Any] = {"parents_left": 1} if state is JobState.WAITING else {}
    job_id = make_job(connection, state, **columns)
    if state is JobState.RUNNING:
        connection.execute(update(Job).where(col(Job.id) == job_id).values(attempt=3))
    assert codes(connection, job_id) == [code]


def test_what_is_not_there_is_not_explained(connection: Connection) -> None:
    job_id = add_job(connection, project_id="theirs")
    with pytest.raises(JobNotFound):
        ask(connection, job_id)
