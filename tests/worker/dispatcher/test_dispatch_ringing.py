"""A real dispatcher rings: what, in which order, how many at a time, and how soon."""

import time
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import lifecycle
from jobs.broker import Broker
from jobs.hints import Hints
from jobs.settings import Settings
from tests.eventually import eventually
from tests.jobs.making import LEASE, PROJECT
from tests.jobs.ringing import add_job, add_jobs, add_worker, count_rung
from tests.worker.dispatcher.conftest import FOR_AN_HOUR, LONG, has_bells
from tests.worker.dispatcher.hearing import Hearer, pop

WINDOW = 4  # of two slots

pytestmark = pytest.mark.usefixtures("dispatcher")


@pytest.fixture(scope="module")
def lease() -> float:
    return LONG


def is_idle(connection: Connection) -> bool:
    """Whether the dispatcher looks once a second, not every tenth of one."""
    query = text("""
    SELECT clock_timestamp() - max(query_start) > interval '0.3 s' FROM pg_stat_activity
    WHERE application_name = 'lading dispatcher' AND query = 'COMMIT'
    """)
    return bool(connection.execute(query).scalar_one())


def claim(connection: Connection, job_id: UUID, attempt: int) -> None:
    lifecycle.start(connection, job_id, attempt=attempt, worker=uuid4(), lease=LEASE)


def test_a_hint_is_followed_at_once(
    eyes: Connection, served: str, bells: Broker, hints: Hints
) -> None:
    waits = []
    for number in range(1, 4):
        eventually(partial(is_idle, eyes))
        add_job(eyes, queue=served)
        began = time.monotonic()
        hints.wake([served])
        eventually(partial(has_bells, bells, served, number), every=0.001)
        waits.append(time.monotonic() - began)
    assert min(waits) < 0.25, waits  # milliseconds on a quiet machine; a second without the hint


def test_a_job_is_rung_without_any_hint(eyes: Connection, served: str, bells: Broker) -> None:
    add_job(eyes, queue=served)
    eventually(partial(has_bells, bells, served, 1))


def test_the_backlog_leaves_by_priority(engine: Engine, served: str, bells: Broker) -> None:
    with engine.begin() as connection:
        ids = {
            add_job(connection, queue=served, priority=priority): priority
            for priority in (3, 9, 0, 7, 5, 1, 8, 2, 6, 4)
        }
    eventually(partial(has_bells, bells, served, WINDOW))
    order: list[int] = []
    while len(order) < len(ids):
        [(job_id, attempt)] = eventually(lambda: pop(bells, served))
        order.append(ids[job_id])
        with engine.begin() as connection:
            claim(connection, job_id, attempt)
    assert order == sorted(order, reverse=True)


def test_a_backlog_of_thousands_costs_the_broker_a_window(
    eyes: Connection, served: str, bells: Broker
) -> None:
    add_jobs(eyes, served, 5000)
    eventually(partial(has_bells, bells, served, WINDOW))
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # fifteen looks of a busy dispatcher
        assert count_rung(eyes, served) == WINDOW
        assert bells.queue_length(served) == WINDOW
    [(job_id, attempt)] = pop(bells, served)
    claim(eyes, job_id, attempt)
    eventually(partial(has_bells, bells, served, WINDOW))
    assert count_rung(eyes, served) == WINDOW


@pytest.mark.usefixtures("dispatchers")
def test_each_attempt_is_rung_once(engine: Engine, served: str, settings: Settings) -> None:
    with engine.begin() as connection:
        add_jobs(connection, served, 500)
    with Hearer(settings, engine, served) as hearer:
        eventually(lambda: len(hearer.heard) == 500, within=60, every=0.1)
    assert set(hearer.heard.values()) == {1}
    assert hearer.refused == 0


def test_kinds_and_queues_wait_for_a_worker(eyes: Connection, served: str, bells: Broker) -> None:
    unserved = f"{served}-other"
    add_job(eyes, queue=served, kind="test.other")
    add_job(eyes, queue=unserved)
    add_job(eyes, queue=served)
    eventually(partial(has_bells, bells, served, 1))
    assert count_rung(eyes, served) == 1
    assert count_rung(eyes, unserved) == 0
    add_worker(eyes, queues=[served], kinds=["test.other"], seen_at=FOR_AN_HOUR)
    add_worker(eyes, queues=[served, unserved], seen_at=FOR_AN_HOUR)
    eventually(partial(has_bells, bells, served, 2))
    eventually(partial(has_bells, bells, unserved, 1))


def test_a_cancelled_job_is_never_rung(engine: Engine, served: str, bells: Broker) -> None:
    with engine.begin() as connection:
        cancelled = add_job(connection, queue=served, priority=9)
        lifecycle.cancel(connection, PROJECT, cancelled, "test")
        wanted = add_job(connection, queue=served)
    eventually(partial(has_bells, bells, served, 1))
    assert pop(bells, served, 2) == [(wanted, 1)]


def test_a_paused_queue_stays_silent_until_it_is_resumed(
    engine: Engine, eyes: Connection, served: str, bells: Broker
) -> None:
    open_queue = f"{served}-open"
    with engine.begin() as connection:
        add_worker(connection, queues=[served, open_queue], seen_at=FOR_AN_HOUR)
        pause = text(
            "INSERT INTO gate (project_id, scope, name, paused)"
            " VALUES ('default', 'queue', :name, true)"
        )
        connection.execute(pause, {"name": served})
        add_job(connection, queue=served)
        add_job(connection, queue=open_queue)
    eventually(partial(has_bells, bells, open_queue, 1))
    assert count_rung(eyes, served) == 0
    eyes.execute(text("UPDATE gate SET paused = false WHERE name = :name"), {"name": served})
    eventually(partial(has_bells, bells, served, 1))
