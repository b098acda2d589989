"""How soon a dispatcher looks again: by what it has found, in this process."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine

from jobs.broker import Bell, Broker
from jobs.settings import Settings
from tests.jobs.making import LEASE
from tests.jobs.ringing import add_jobs, add_worker, count_rung
from worker.dispatcher.dispatch import BUSY, DRY, IDLE, Dispatch


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    broker = Broker(settings)
    broker._redis.flushall()
    yield broker
    broker.close()


@pytest.fixture
def service(broker: Broker) -> Dispatch:
    has_begun = threading.Event()
    has_begun.set()
    return Dispatch(broker, LEASE, has_begun)


def add_backlog(connection: Connection, queue: str) -> None:
    with connection.begin():
        add_worker(connection, queues=[queue])
        add_jobs(connection, queue, 20)


def test_a_window_that_ran_dry_is_looked_at_again_soon(engine: Engine, service: Dispatch) -> None:
    with engine.connect() as connection:
        assert service.turn(connection).most == IDLE
        add_backlog(connection, "dry")
        assert service.turn(connection).most == DRY
        assert service.turn(connection).most == BUSY  # nobody has answered yet


def test_a_window_that_stale_bells_shut_is_not(
    engine: Engine, service: Dispatch, broker: Broker
) -> None:
    broker.ring([Bell("shut", "test.echo", ((uuid4(), 1),), 5) for _ in range(8)])
    with engine.connect() as connection:
        add_backlog(connection, "shut")
        assert service.turn(connection).most == BUSY
        assert count_rung(connection, "shut") == 0
