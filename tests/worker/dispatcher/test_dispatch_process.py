"""A dispatcher's own life: how it comes and goes, and what it does when PostgreSQL was away."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, NullPool, create_engine, func, select, text, update
from sqlmodel import col

from dev.postgres import temporary_postgres
from dev.valkey import EmbeddedValkey
from jobs.models import Dispatcher, Job
from jobs.settings import Settings
from jobs.states import JobState
from tests.conftest import create_database, migrate
from tests.eventually import eventually
from tests.jobs.making import make_job, read_events
from tests.jobs.ringing import add_job
from tests.worker.dispatcher.conftest import (
    Start,
    frozen,
    has_state,
    is_present,
    running,
    wait_until_it_rescues,
)

STARTED = text("SELECT pg_postmaster_start_time()")


def test_a_dispatcher_that_just_came_gives_every_worker_a_lease(
    eyes: Connection, queue: str, start: Start, settings: Settings
) -> None:
    came = start().process.pid
    now = func.clock_timestamp()
    job_id = make_job(eyes, JobState.RUNNING, queue=queue, lease_until=now)
    eventually(partial(has_state, eyes, job_id, JobState.QUEUED))
    crashed = read_events(eyes, job_id)[-1]
    query = select(col(Dispatcher.started_at)).where(col(Dispatcher.pid) == came)
    assert crashed.at - eyes.execute(query).scalar_one() > 0.9 * settings.lease


@pytest.mark.parametrize("is_frozen", [False, True])
def test_it_ends_soon_and_leaves_no_row(
    start: Start,
    eyes: Connection,
    served: str,
    own_valkey: EmbeddedValkey,
    is_frozen: bool,
) -> None:
    dispatcher = start()
    process = dispatcher.process
    if is_frozen:
        with frozen(own_valkey):
            add_job(eyes, queue=served)
            eventually(lambda: dispatcher.count("wait") > 0)  # a service, for the broker
            took = seconds_to_end(process.pid)
    else:
        took = seconds_to_end(process.pid)
    assert process.wait(30) == 0
    assert took < 10  # one, and what a busy machine adds
    assert not is_present(eyes.engine, process)


def seconds_to_end(pid: int) -> float:
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return time.monotonic() - began


def test_leases_outlive_a_restart_of_postgresql(settings: Settings, tmp_path: Path) -> None:
    """Nobody could renew: what seems run out gets a lease's time, and is rescued after it."""
    with temporary_postgres() as server:
        url = server.url_of("own")
        create_database(server, "own")
        migrate(url)
        engine = create_engine(
            url.replace("postgresql:", "postgresql+psycopg:"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
        here = settings.model_copy(update={"database_url": SecretStr(url)})
        with running(here, engine, tmp_path) as dispatcher:
            with engine.connect() as connection:
                wait_until_it_rescues(connection, "nobody")
                job_id = make_job(connection, JobState.RUNNING, queue="nobody")
            server.stop()
            server.start()
            with engine.connect() as connection:
                started = connection.execute(STARTED).scalar_one()
                connection.execute(
                    update(Job).where(col(Job.id) == job_id).values(lease_until=started)
                )
                eventually(partial(has_state, connection, job_id, JobState.QUEUED), within=60)
                crashed = read_events(connection, job_id)[-1]
                assert crashed.at - connection.execute(STARTED).scalar_one() >= here.lease
            eventually(lambda: is_present(engine, dispatcher.process), within=60)
            assert dispatcher.process.poll() is None


def test_a_service_that_dies_ends_the_process(start: Start, eyes: Connection) -> None:
    dispatcher = start()
    eyes.execute(text("ALTER TABLE dispatcher RENAME TO gone"))
    try:
        assert dispatcher.process.wait(30) == 1
        assert dispatcher.count("Traceback") > 0
    finally:
        eyes.execute(text("ALTER TABLE gone RENAME TO dispatcher"))
