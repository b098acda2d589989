"""The Celery application: its tasks, its settings, and the queues that a pool serves."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery.backends.base import DisabledBackend

from jobs.settings import Settings
from worker.application import Application, make_celery


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    app = make_celery(settings)
    monkeypatch.setattr(app.log, "already_setup", True)  # the tests' own logs stay as they are
    yield app
    if hasattr(app, "board"):
        app.board.close()
    app.close()


def make_worker(app: Application, pool: str, queues: str | None = None) -> Any:
    """A worker that is not started."""
    return app.Worker(pool_cls=pool, queues=queues, concurrency=1)


def test_each_kind_is_a_task_of_its_name(app: Application) -> None:
    assert set(app.registry) <= set(app.tasks)
    assert {"test.echo", "odd.big", "demo.sleep", "email.send"} <= set(app.tasks)


def test_celery_stores_nothing_and_acknowledges_early(app: Application) -> None:
    assert isinstance(app.backend, DisabledBackend)
    assert app.tasks["test.echo"].ignore_result
    assert not app.tasks["test.echo"].acks_late
    assert app.conf.broker_transport_options["ack_emulation"] is False


@pytest.mark.parametrize(
    ("pool", "queues", "one_by_one"), [("prefork", {"default"}, True), ("threads", {"io"}, False)]
)
def test_the_pool_decides_the_queues(
    app: Application, pool: str, queues: set[str], one_by_one: bool
) -> None:
    make_worker(app, pool)
    assert set(app.amqp.queues.consume_from) == queues
    assert app.conf.worker_disable_prefetch is one_by_one


def test_queues_may_be_named_instead(app: Application) -> None:
    make_worker(app, "threads", "io.slow,io")
    assert set(app.amqp.queues.consume_from) == {"io.slow", "io"}


def test_each_start_of_a_worker_has_an_id_of_its_own(app: Application) -> None:
    make_worker(app, "threads")
    first = app.worker_id
    make_worker(app, "threads")
    assert app.worker_id != first
