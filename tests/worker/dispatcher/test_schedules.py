"""The service that fires schedules, turn by turn."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from jobs.hints import Hints
from jobs.registry import load_registry
from jobs.schedules import store
from jobs.schedules.store import ScheduleView
from jobs.settings import Settings
from tests.jobs.schedules.making import PROJECT, be_late, jobs_of, make
from worker.dispatcher.schedules import HELD, IDLE, Schedules

SECOND = timedelta(seconds=1)


@pytest.fixture
def service(settings: Settings) -> Iterator[Schedules]:
    hints = Hints(settings.broker_url.get_secret_value())
    yield Schedules(hints, settings.lease, lambda: None)
    hints.close()


@pytest.fixture
def late(engine: Engine) -> Iterator[ScheduleView]:
    """An hourly schedule that is due."""
    with engine.begin() as connection:
        schedule = make(connection, load_registry(["tests.kinds_for_tests"]))
        be_late(connection, schedule, SECOND)
    yield schedule
    with engine.begin() as connection:
        store.delete(connection, PROJECT, schedule.id)


def test_it_fires_and_sleeps_until_the_next_tick(
    service: Schedules, engine: Engine, late: ScheduleView, eyes: Connection
) -> None:
    with engine.connect() as connection:
        assert service.turn(connection).most == 0
        assert service.turn(connection).most == IDLE
    assert len(jobs_of(eyes, late)) == 1


def test_it_comes_back_soon_for_what_somebody_else_holds(
    service: Schedules, engine: Engine, late: ScheduleView
) -> None:
    held = sa.text("SELECT FROM schedule WHERE id = :id FOR UPDATE")
    with engine.begin() as holding, engine.connect() as connection:
        holding.execute(held, {"id": late.id})
        assert service.turn(connection).most == HELD


def test_a_schedule_without_times_is_paused_and_keeps_nobody_up(
    service: Schedules, engine: Engine, late: ScheduleView, eyes: Connection
) -> None:
    lost = sa.text(
        "UPDATE schedule SET cron = '0 0 * * *', every_seconds = NULL, anchor_at = NULL,"
        " timezone = 'Atlantis/Poseidonis' WHERE id = :id"
    )
    with engine.begin() as connection:
        connection.execute(lost, {"id": late.id})
        other = make(connection, load_registry(["tests.kinds_for_tests"]))
        be_late(connection, other, SECOND)
    with engine.connect() as connection:
        service.turn(connection)
    paused = "SELECT paused FROM schedule WHERE id = :id"
    assert eyes.execute(sa.text(paused), {"id": late.id}).scalar_one()
    assert len(jobs_of(eyes, other)) == 1
    with engine.begin() as connection:
        store.delete(connection, PROJECT, other.id)
