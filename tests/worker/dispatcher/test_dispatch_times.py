"""What a real dispatcher does when a time has come: release, expiry, rescue, forgetting."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, Row, func, select, text
from sqlmodel import col

from jobs.broker import Broker
from jobs.models import Dispatcher, Worker
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import make_job, read, read_events
from tests.jobs.ringing import add_job, add_worker
from tests.worker.dispatcher.conftest import Start

SECOND = timedelta(seconds=1)


def reaches(connection: Connection, job_id: UUID, state: JobState) -> tuple[Row[Any], list[Any]]:
    """The job and its events, once it is in `state`."""

    def look() -> tuple[Row[Any], list[Any]] | None:
        job, events = read(connection, job_id)
        return (job, events) if job.state is state else None

    found = eventually(look)
    assert found is not None
    return found


@pytest.fixture
def eyes(engine: Engine, clean: None) -> Any:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


@pytest.mark.usefixtures("worker_lives")
@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RETRYING])
def test_a_job_whose_time_has_come_is_rung(
    start: Start, eyes: Connection, bells: Broker, state: JobState
) -> None:
    start()
    due = func.clock_timestamp() + 2 * SECOND
    job_id = make_job(eyes, state, attempt=1, run_at=due)
    later = make_job(eyes, state, attempt=1)
    job, events = reaches(eyes, job_id, JobState.QUEUED)
    assert [event.type for event in events] == ["created", "queued"]
    assert timedelta() <= job.queued_at - job.run_at < 1.5 * SECOND
    eventually(lambda: bells.queue_length("default") == 1)
    assert read(eyes, later)[0].state is state


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.QUEUED])
def test_a_job_that_was_not_started_in_time_is_cancelled(
    start: Start, eyes: Connection, state: JobState
) -> None:
    start()
    soon = func.clock_timestamp() + SECOND
    job_id = make_job(eyes, state, attempt=0, expires_at=soon)
    started = make_job(eyes, JobState.QUEUED, attempt=1, expires_at=soon)
    job, events = reaches(eyes, job_id, JobState.CANCELLED)
    assert (events[-1].type, events[-1].data) == ("cancelled", {"reason": "expired"})
    assert job.finished_at >= job.expires_at
    assert read(eyes, started)[0].state is JobState.QUEUED


@pytest.mark.usefixtures("worker_lives")
def test_a_job_whose_worker_is_gone_is_rung_anew(
    start: Start, eyes: Connection, bells: Broker
) -> None:
    start()
    job_id = make_job(eyes, JobState.RUNNING, lease_until=func.clock_timestamp())
    job, events = reaches(eyes, job_id, JobState.QUEUED)
    assert [event.type for event in events] == ["created", "crashed"]
    assert (job.crashes, job.failures, job.attempt) == (1, 0, 1)
    eventually(lambda: bells.queue_length("default") == 1)


def test_the_third_crash_is_the_last(start: Start, eyes: Connection) -> None:
    start()
    gone = func.clock_timestamp()
    job_id = make_job(eyes, JobState.RUNNING, attempt=3, crashes=2, lease_until=gone)
    job, events = reaches(eyes, job_id, JobState.FAILED)
    assert events[-1].type == "failed"
    assert job.error["cause"] == "crashed"


def test_a_lease_that_is_renewed_is_left_alone(start: Start, eyes: Connection) -> None:
    start()
    held = make_job(eyes, JobState.RUNNING)
    gone = make_job(eyes, JobState.RUNNING, lease_until=func.clock_timestamp())
    reaches(eyes, gone, JobState.QUEUED)
    assert [event.type for event in read_events(eyes, held)] == ["created"]


def test_a_dispatcher_that_just_came_gives_every_worker_a_lease(
    start: Start, eyes: Connection
) -> None:
    job_id = make_job(eyes, JobState.RUNNING, lease_until=func.clock_timestamp())
    start()
    began = time.monotonic()
    reaches(eyes, job_id, JobState.QUEUED)
    assert time.monotonic() - began > 2  # of three; the first sweep came before the first beat


def test_it_beats_while_it_lives(start: Start, eyes: Connection) -> None:
    process = start()
    seen = select(col(Dispatcher.seen_at)).where(col(Dispatcher.pid) == process.pid)
    first = eyes.execute(seen).scalar_one()
    eventually(lambda: eyes.execute(seen).scalar_one() > first)
    process.terminate()
    assert process.wait(10) == 0
    assert eyes.execute(seen).one_or_none() is None


def test_processes_that_are_long_gone_are_forgotten(start: Start, eyes: Connection) -> None:
    long_ago = text("clock_timestamp() - interval '7 minutes'")  # more than 120 leases
    old, new = add_worker(eyes, seen_at=long_ago), add_worker(eyes)
    start()
    workers = select(col(Worker.id))
    eventually(lambda: eyes.execute(workers).scalars().all() == [new])
    assert old != new


def test_an_idle_job_is_not_touched(start: Start, eyes: Connection) -> None:
    """Nobody serves its queue: it waits, and its history says nothing."""
    job_id = add_job(eyes)
    start()
    time.sleep(1.5)
    assert [event.type for event in read_events(eyes, job_id)] == ["created"]
