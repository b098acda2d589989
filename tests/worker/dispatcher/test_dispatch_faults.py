"""The broker dies, is wiped, freezes, or loses a bell; PostgreSQL restarts; a service dies."""

import signal
import time
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, func, text, update

from dev.postgres import temporary_postgres
from dev.valkey import EmbeddedValkey
from jobs.broker import Broker
from jobs.models import Job
from jobs.settings import Settings
from jobs.states import JobState
from tests.conftest import create_database, migrate
from tests.eventually import eventually
from tests.jobs.making import make_job, read_job
from tests.jobs.ringing import add_job, count_rung
from tests.worker.dispatcher.conftest import Start, frozen, is_present
from tests.worker.dispatcher.hearing import pop

LONG = 60.0  # seconds of lease: nothing is rung again for its age alone
WINDOW = 4  # of two slots
WITHIN = 5.0  # seconds, from the broker's return until its window is full again


def state_of(engine: Engine, job_id: UUID) -> JobState:
    with engine.connect() as connection:
        state: JobState = read_job(connection, job_id).state
        return state


@pytest.mark.usefixtures("worker_lives")
def test_a_killed_broker_is_rung_anew(
    start: Start, engine: Engine, bells: Broker, own_valkey: EmbeddedValkey, settings: Settings
) -> None:
    with engine.begin() as connection:
        ids = [add_job(connection) for _ in range(3)]
    process = start(LONG)
    eventually(lambda: bells.queue_length("default") == 3)
    own_valkey.kill()
    with engine.begin() as connection:
        ids += [add_job(connection) for _ in range(5)]
    time.sleep(2)  # the dispatcher meets the absence
    own_valkey.start()
    eventually(lambda: bells.is_alive() and bells.queue_length("default") == WINDOW, within=WITHIN)
    with engine.connect() as connection:
        assert count_rung(connection) == WINDOW
    assert [job_id for job_id, _ in pop(settings, 10)] == ids[:WINDOW]
    assert process.poll() is None


@pytest.mark.usefixtures("worker_lives")
def test_a_wiped_broker_is_rung_anew(
    start: Start, engine: Engine, bells: Broker, settings: Settings
) -> None:
    with engine.begin() as connection:
        ids = [add_job(connection) for _ in range(8)]
    start(LONG)
    eventually(lambda: bells.queue_length("default") == WINDOW)
    bells._redis.flushall()
    eventually(lambda: bells.queue_length("default") == WINDOW, within=WITHIN)
    assert [job_id for job_id, _ in pop(settings, 10)] == ids[:WINDOW]


@pytest.mark.usefixtures("worker_lives")
def test_two_dispatchers_ring_a_wiped_broker_once(
    start: Start, engine: Engine, bells: Broker, settings: Settings
) -> None:
    with engine.begin() as connection:
        ids = [add_job(connection) for _ in range(8)]
    start(LONG)
    start(LONG)
    eventually(lambda: bells.queue_length("default") == WINDOW)
    bells._redis.flushall()
    eventually(lambda: bells.queue_length("default") == WINDOW, within=WITHIN)
    epoch = bells.life().epoch
    time.sleep(2.5)  # both have looked twice
    assert bells.life().epoch == epoch
    assert [job_id for job_id, _ in pop(settings, 10)] == ids[:WINDOW]


@pytest.mark.usefixtures("worker_lives")
def test_a_bell_that_a_dying_worker_has_popped_is_rung_again(
    start: Start, engine: Engine, bells: Broker, settings: Settings
) -> None:
    with engine.begin() as connection:
        ids = [add_job(connection) for _ in range(3)]
    start()
    eventually(lambda: bells.queue_length("default") == 3)
    assert pop(settings) == [(ids[0], 1)]
    eventually(lambda: bells.queue_length("default") == 3, within=10)
    assert sorted(pop(settings, 10)) == sorted((job_id, 1) for job_id in ids)


@pytest.mark.usefixtures("worker_lives")
def test_a_frozen_broker_stops_nothing_but_the_ringing(
    start: Start, engine: Engine, bells: Broker, own_valkey: EmbeddedValkey
) -> None:
    start()
    time.sleep(3.5)  # a lease without interruption
    with frozen(own_valkey), engine.begin() as connection:
        now = func.clock_timestamp()
        due = make_job(connection, JobState.SCHEDULED, attempt=0, run_at=now)
        orphan = make_job(connection, JobState.RUNNING, lease_until=now)
        expired = add_job(connection, expires_at=now)
        connection.commit()
        eventually(lambda: state_of(engine, due) is JobState.QUEUED, within=4)
        eventually(lambda: state_of(engine, orphan) is JobState.QUEUED, within=4)
        eventually(lambda: state_of(engine, expired) is JobState.CANCELLED, within=4)
    eventually(lambda: bells.queue_length("default") >= 2, within=15)


@pytest.mark.usefixtures("worker_lives", "bells")
def test_it_ends_within_a_second_whatever_the_broker_does(
    start: Start, engine: Engine, own_valkey: EmbeddedValkey
) -> None:
    for is_frozen in (False, True):
        process = start(LONG)
        if is_frozen:
            with frozen(own_valkey):
                with engine.begin() as connection:
                    add_job(connection)
                time.sleep(1.5)  # it is waiting for an answer now
                took = ended(process)
        else:
            took = ended(process)
        assert took < 3, is_frozen  # one, and what a busy machine adds
        assert process.returncode == 0
        assert not is_present(engine, process.pid)


def ended(process: object) -> float:
    process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
    began = time.monotonic()
    process.wait(20)  # type: ignore[attr-defined]
    return time.monotonic() - began


def test_a_service_that_dies_ends_the_process(
    start: Start, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    process = start()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE dispatcher RENAME TO gone"))
    try:
        assert process.wait(15) == 1
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO dispatcher"))


@pytest.mark.slow
def test_leases_outlive_a_restart_of_postgresql(start: Start) -> None:
    """Nobody could renew: what seems run out gets a lease's time, and is rescued after it."""
    with temporary_postgres() as server:
        create_database(server, "own")
        migrate(server.url_of("own"))
        url = server.url_of("own").replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, pool_pre_ping=True)
        process = start(database_url=server.url_of("own"))
        eventually(lambda: is_present(engine, process.pid), within=30)
        time.sleep(4)  # it would rescue by now
        with engine.begin() as connection:
            job_id = make_job(connection, JobState.RUNNING)
        server.stop()
        server.start()
        with engine.begin() as connection:
            run_out = update(Job).values(lease_until=func.clock_timestamp())
            connection.execute(run_out)
        began = time.monotonic()
        eventually(lambda: state_of(engine, job_id) is JobState.QUEUED)
        assert time.monotonic() - began > 2  # the lease is three, of which the restart took a part
        assert process.poll() is None
        assert is_present(engine, process.pid)
        engine.dispose()
        process.terminate()
        process.wait(10)
