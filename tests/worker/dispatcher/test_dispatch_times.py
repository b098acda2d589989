"""What a real dispatcher does when a time has come: release, expiry, rescue, forgetting."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Row, any_, func, literal, select, text
from sqlmodel import col

from jobs.broker import Broker
from jobs.models import Dispatcher, Worker
from jobs.states import JobState
from tests.eventually import eventually, soon
from tests.jobs.making import make_job, read, read_events
from tests.jobs.ringing import add_worker
from tests.worker.dispatcher.conftest import Running, has_bells

SECOND = timedelta(seconds=1)


def reach(connection: Connection, job_id: UUID, state: JobState) -> tuple[Row[Any], list[Row[Any]]]:
    """The job and its events, once it is in `state`."""

    def look() -> tuple[Row[Any], list[Row[Any]]] | None:
        job, events = read(connection, job_id)
        return (job, events) if job.state is state else None

    found = eventually(look)
    assert found is not None
    return found


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RETRYING])
def test_a_job_whose_time_has_come_is_rung(
    eyes: Connection, served: str, bells: Broker, state: JobState
) -> None:
    later = make_job(eyes, state, queue=served)
    due = func.clock_timestamp() + SECOND
    late: list[float] = []

    def seconds_late() -> float:
        job_id = make_job(eyes, state, queue=served, run_at=due)
        job, events = reach(eyes, job_id, JobState.QUEUED)
        assert [event.type for event in events] == ["created", "queued"]
        assert job.queued_at >= job.run_at
        late.append((job.queued_at - job.run_at).total_seconds())
        return late[-1]

    soon(seconds_late, below=3)  # one, on a quiet machine
    eventually(partial(has_bells, bells, served, len(late)))
    assert read(eyes, later)[0].state is state


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.QUEUED])
def test_a_job_that_was_not_started_in_time_is_cancelled(
    eyes: Connection, queue: str, state: JobState
) -> None:
    soon = func.clock_timestamp() + SECOND
    job_id = make_job(eyes, state, queue=queue, attempt=0, expires_at=soon)
    started = make_job(eyes, JobState.QUEUED, queue=queue, attempt=1, expires_at=soon)
    job, events = reach(eyes, job_id, JobState.CANCELLED)
    assert (events[-1].type, events[-1].data) == ("cancelled", {"reason": "expired"})
    assert job.finished_at >= job.expires_at
    assert read(eyes, started)[0].state is JobState.QUEUED


@pytest.mark.usefixtures("dispatcher")
def test_a_job_whose_worker_is_gone_is_rung_anew(
    eyes: Connection, served: str, bells: Broker
) -> None:
    now = func.clock_timestamp()
    held = make_job(eyes, JobState.RUNNING, queue=served)
    gone = make_job(eyes, JobState.RUNNING, queue=served, lease_until=now)
    job, events = reach(eyes, gone, JobState.QUEUED)
    assert [event.type for event in events] == ["created", "crashed"]
    assert (job.crashes, job.failures, job.attempt) == (1, 0, 1)
    eventually(partial(has_bells, bells, served, 1))
    assert [event.type for event in read_events(eyes, held)] == ["created"]


@pytest.mark.usefixtures("dispatcher")
def test_the_third_crash_is_the_last(eyes: Connection, queue: str) -> None:
    now = func.clock_timestamp()
    job_id = make_job(eyes, JobState.RUNNING, queue=queue, attempt=3, crashes=2, lease_until=now)
    job, events = reach(eyes, job_id, JobState.FAILED)
    assert events[-1].type == "failed"
    assert job.error["cause"] == "crashed"


@pytest.mark.usefixtures("dispatcher")
def test_a_job_that_was_asked_to_end_goes_with_its_worker(eyes: Connection, queue: str) -> None:
    now = func.clock_timestamp()
    asked: dict[str, Any] = {"cancel_requested": True, "cancel_reason": "enough"}
    job_id = make_job(eyes, JobState.RUNNING, queue=queue, lease_until=now, **asked)
    job, events = reach(eyes, job_id, JobState.CANCELLED)
    assert (events[-1].type, events[-1].data) == ("cancelled", {"reason": "enough"})
    assert job.crashes == 0


def test_it_beats_while_it_lives(dispatcher: Running, eyes: Connection) -> None:
    seen = select(col(Dispatcher.seen_at)).where(col(Dispatcher.pid) == dispatcher.process.pid)
    first = eyes.execute(seen).scalar_one()
    eventually(lambda: eyes.execute(seen).scalar_one() > first)


@pytest.mark.usefixtures("dispatcher")
def test_processes_that_are_long_gone_are_forgotten(eyes: Connection, queue: str) -> None:
    long_ago = text("clock_timestamp() - interval '7 minutes'")  # more than 120 leases
    add_worker(eyes, queues=[queue], seen_at=long_ago)
    new = add_worker(eyes, queues=[queue])
    workers = select(col(Worker.id)).where(literal(queue) == any_(col(Worker.queues)))
    eventually(lambda: eyes.execute(workers).scalars().all() == [new], within=30)
