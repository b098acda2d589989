"""A bulk operation in the hands of dispatcher processes, one of which is killed on the way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from jobs.bulk.operations import Order, get_operation, start
from jobs.bulk.words import Op
from jobs.queries import JobFilter
from jobs.settings import Settings
from jobs.states import JobState
from jobs.trail.record import Actor
from tests.eventually import eventually
from tests.jobs.making import make_job

JOBS = 600
ACTOR = Actor("default", None, "tests")


@contextmanager
def dispatcher(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "LADING_DATABASE_URL": settings.database_url.get_secret_value(),
        "LADING_BROKER_URL": settings.broker_url.get_secret_value(),
    }
    process = subprocess.Popen([sys.executable, "-m", "worker.dispatcher"], env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def test_a_killed_dispatcher_leaves_each_job_its_one_turn(
    engine: Engine, settings: Settings
) -> None:
    with engine.begin() as connection:
        for _ in range(JOBS):
            make_job(connection, JobState.SCHEDULED, attempt=0, kind="bulk.killed")
        order = Order(Op.CANCEL, JobFilter(kind="bulk.killed"), JOBS, rate=150)
        operation_id = start(connection, ACTOR, order).id

    def done() -> int:
        with engine.connect() as connection:
            return get_operation(connection, "default", operation_id).done

    with dispatcher(settings):
        eventually(lambda: done() > 0, within=120)
    assert done() < JOBS
    with dispatcher(settings), dispatcher(settings):
        eventually(lambda: done() == JOBS, within=120)
    with engine.connect() as connection:
        each = text(
            "SELECT count(*), count(DISTINCT job_id) FROM job_event"
            " JOIN job ON job.id = job_id WHERE type = 'cancelled' AND kind = 'bulk.killed'"
        )
        assert tuple(connection.execute(each).one()) == (JOBS, JOBS)
        left = connection.execute(text("SELECT count(*) FROM bulk_part")).scalar_one()
    assert left == 0
