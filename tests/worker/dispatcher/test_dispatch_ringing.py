"""A real dispatcher rings: what, in which order, how many at a time, and how soon."""

import time
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, func, select, text
from sqlmodel import col

from jobs import lifecycle
from jobs.broker import Broker
from jobs.hints import Hints
from jobs.models import Job
from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import LEASE, PROJECT
from tests.jobs.ringing import add_job, add_worker, count_rung
from tests.worker.dispatcher.conftest import Start
from tests.worker.dispatcher.hearing import Hearer, pop

LONG = 60.0  # seconds of lease: nothing is rung again while a slow machine thinks
WINDOW = 4  # of two slots


def count(connection: Connection, state: JobState) -> int:
    counted = select(func.count()).where(col(Job.state) == state)
    return connection.execute(counted).scalar_one()


def has_bells(bells: Broker, number: int) -> bool:
    return bells.queue_length("default") == number


def claim(connection: Connection, job_id: UUID, attempt: int) -> None:
    lifecycle.start(connection, job_id, attempt=attempt, worker=uuid4(), lease=LEASE)


def add_jobs(connection: Connection, number: int) -> None:
    """Quicker than one by one; without events."""
    connection.execute(
        text("""
        INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at,
                         queued_at)
        SELECT gen_random_uuid(), 'test.echo', 'queued', 'default', 5, '{}', 1, 1,
               clock_timestamp(), clock_timestamp()
        FROM generate_series(1, :number)
        """),
        {"number": number},
    )


@pytest.mark.usefixtures("worker_lives")
def test_a_hint_is_followed_at_once(
    start: Start, engine: Engine, bells: Broker, hints: Hints
) -> None:
    start()
    waits = []
    for number in range(1, 4):
        time.sleep(1.1)  # until the dispatcher is idle, and looks once a second only
        with engine.begin() as connection:
            add_job(connection)
        began = time.monotonic()
        hints.wake(["default"])
        eventually(partial(has_bells, bells, number), every=0.001)
        waits.append(time.monotonic() - began)
    assert min(waits) < 0.1, waits


@pytest.mark.usefixtures("worker_lives")
def test_a_job_is_rung_without_any_hint(start: Start, engine: Engine, bells: Broker) -> None:
    start()
    with engine.begin() as connection:
        add_job(connection)
    eventually(lambda: bells.queue_length("default") == 1, within=5)


@pytest.mark.usefixtures("worker_lives", "bells")
def test_the_backlog_leaves_by_priority(start: Start, engine: Engine, settings: Settings) -> None:
    with engine.begin() as connection:
        ids = {
            add_job(connection, priority=priority): priority
            for priority in (3, 9, 0, 7, 5, 1, 8, 2, 6, 4)
        }
    start(LONG)
    order: list[int] = []
    while len(order) < len(ids):
        [(job_id, attempt)] = eventually(lambda: pop(settings))
        order.append(ids[job_id])
        with engine.begin() as connection:
            claim(connection, job_id, attempt)
    assert order == sorted(order, reverse=True)


@pytest.mark.usefixtures("worker_lives")
def test_a_backlog_of_thousands_costs_the_broker_a_window(
    start: Start, engine: Engine, bells: Broker, settings: Settings
) -> None:
    with engine.begin() as connection:
        add_jobs(connection, 5000)
    start(LONG)
    eventually(lambda: bells.queue_length("default") == WINDOW)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # fifteen looks of a busy dispatcher
        with engine.connect() as connection:
            assert count_rung(connection) == WINDOW
        assert bells.queue_length("default") == WINDOW
    [(job_id, attempt)] = pop(settings)
    with engine.begin() as connection:
        claim(connection, job_id, attempt)
    eventually(lambda: bells.queue_length("default") == WINDOW)


@pytest.mark.usefixtures("worker_lives", "bells")
@pytest.mark.parametrize("dispatchers", [1, 2])
def test_each_attempt_is_rung_once(
    start: Start, engine: Engine, settings: Settings, dispatchers: int
) -> None:
    for _ in range(dispatchers):
        start(LONG)
    with engine.begin() as connection:
        add_jobs(connection, 1000)
    with Hearer(settings, engine) as hearer, engine.connect() as connection:
        for_all = connection.execution_options(isolation_level="AUTOCOMMIT")
        eventually(lambda: count(for_all, JobState.SUCCEEDED) == 1000, within=60, every=0.1)
    assert set(hearer.heard.values()) == {1}
    assert len(hearer.heard) == 1000
    assert hearer.refused == 0


@pytest.mark.usefixtures("worker_lives")
def test_kinds_and_queues_wait_for_a_worker(start: Start, engine: Engine, bells: Broker) -> None:
    with engine.begin() as connection:
        add_job(connection, kind="test.other")
        add_job(connection, queue="other")
        add_job(connection)
    start(LONG)
    eventually(lambda: bells.queue_length("default") == 1)
    with engine.begin() as connection:
        assert count_rung(connection) == 1
        live = text("clock_timestamp() + interval '1 hour'")
        add_worker(connection, kinds=["test.other"], seen_at=live)
        add_worker(connection, queues=["other"], seen_at=live)
    eventually(lambda: bells.queue_length("default") == 2)
    eventually(lambda: bells.queue_length("other") == 1)
    bells.purge(["other"])


@pytest.mark.usefixtures("worker_lives")
def test_a_cancelled_job_is_never_rung(start: Start, engine: Engine, bells: Broker) -> None:
    with engine.begin() as connection:
        cancelled = add_job(connection, priority=9)
        lifecycle.cancel(connection, PROJECT, cancelled, "test")
        wanted = add_job(connection)
    start()
    eventually(lambda: bells.queue_length("default") == 1)
    with engine.connect() as connection:
        rung = select(col(Job.id)).where(col(Job.rung_at).is_not(None))
        assert connection.execute(rung).scalars().all() == [wanted]


@pytest.mark.usefixtures("worker_lives")
def test_a_paused_queue_stays_silent_until_it_is_resumed(
    start: Start, engine: Engine, bells: Broker
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO queue (project_id, name, paused) VALUES ('default', 'default', true)")
        )
        add_job(connection)
        add_job(connection, queue="other")
        add_worker(connection, queues=["other"])
    start(LONG)
    eventually(lambda: bells.queue_length("other") == 1)
    assert bells.queue_length("default") == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE queue SET paused = false"))
    eventually(lambda: bells.queue_length("default") == 1)
    bells.purge(["other"])
