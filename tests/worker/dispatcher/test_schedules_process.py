"""Schedules under real dispatchers: two at once, and one of them dies."""

import signal
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from jobs.registry import load_registry
from jobs.schedules import store
from jobs.schedules.asking import Asked
from jobs.schedules.models import Misfire
from tests.eventually import eventually
from tests.jobs.schedules.making import PROJECT, jobs_of, ticks
from tests.worker.dispatcher.conftest import Start

SECOND = timedelta(seconds=1)


def test_each_tick_makes_one_job_whoever_dies(
    start: Start, engine: Engine, eyes: Connection, queue: str
) -> None:
    registry = load_registry(["tests.kinds_for_tests"])
    first, second = start(), start()
    asked = Asked(
        name="often", kind="test.echo", args={}, every=SECOND, queue=queue, misfire=Misfire.ALL
    )
    with engine.begin() as connection:
        schedule = store.create(connection, registry, PROJECT, asked)
    eventually(lambda: len(ticks(eyes, schedule)) >= 2)
    first.process.send_signal(signal.SIGKILL)
    seen = len(ticks(eyes, schedule))
    eventually(lambda: len(ticks(eyes, schedule)) >= seen + 3)
    assert second.process.poll() is None
    with engine.begin() as connection:
        store.pause(connection, PROJECT, schedule.id)
    fired = ticks(eyes, schedule)
    expected = [fired[0].tick_at + number * SECOND for number in range(len(fired))]
    assert [tick.tick_at for tick in fired] == expected
    jobs = jobs_of(eyes, schedule)
    assert sorted(job.id for job in jobs) == sorted(tick.job_id for tick in fired if tick.job_id)
    events = "SELECT count(*) FROM job_event WHERE type = 'created' AND job_id = ANY (:ids)"
    made = eyes.execute(sa.text(events), {"ids": [job.id for job in jobs]}).scalar_one()
    assert made == len(jobs)
