"""pytest-celery's `celery_setup` on process nodes, with our broker and our workers.

A module's workers are started once. A module that stops or kills them overrides `nodes`.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from pydantic import SecretStr
from pytest_celery import CeleryBrokerCluster, CeleryWorkerCluster
from sqlalchemy import Engine

from dev.postgres import EmbeddedPostgres
from dev.valkey import EmbeddedValkey
from jobs.broker import Broker
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from kinds import MODULES
from tests.api.relay import Relay, relay
from tests.worker import nodes
from tests.worker.bench import Bench, set_up
from tests.worker.platform import Platform
from worker.board import ThreadBoard
from worker.runtime import Runtime

LEASE = 12.0  # seconds: a beat every two
LAST_WORDS = 3000  # characters of a worker's log


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    kinds = (*settings.kinds, "tests.worker.kinds")
    return settings.model_copy(
        update={"lease_seconds": LEASE, "soft_shutdown_seconds": 2.0, "kinds": kinds}
    )


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Registry:
    return load_registry((*MODULES, *settings.kinds))


@pytest.fixture(scope="module")
def broker(settings: Settings) -> Iterator[Broker]:
    """Without bells of an earlier module."""
    broker = Broker(settings)
    broker._redis.flushall()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def platform(engine: Engine, broker: Broker, registry: Registry) -> Platform:
    return Platform(engine, broker, registry)


@pytest.fixture(scope="module")
def worker_nodes(settings: Settings, broker: Broker) -> Iterator[list[nodes.WorkerNode]]:
    """One worker of each pool."""
    started = [nodes.WorkerNode(settings, pool) for pool in ("prefork", "threads")]
    yield started
    for node in started:
        node.teardown()


@pytest.fixture
def celery_broker_cluster(valkey: EmbeddedValkey) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(nodes.Broker(nodes.ValkeyNode(valkey)))


@pytest.fixture
def celery_backend_cluster() -> None:
    """There is none."""


@pytest.fixture
def celery_worker_cluster(
    worker_nodes: list[nodes.WorkerNode], celery_setup_app: Celery
) -> CeleryWorkerCluster:
    cluster = CeleryWorkerCluster(*(nodes.Worker(node, celery_setup_app) for node in worker_nodes))
    assert cluster.ready()
    return cluster


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where a handler writes down that it was there."""
    return tmp_path / "notes"


@pytest.fixture
def bench(postgres: EmbeddedPostgres, settings: Settings, platform: Platform) -> Iterator[Bench]:
    with set_up(settings, platform, postgres.port) as made:
        yield made


@pytest.fixture
def line(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    """Between an attempt that runs here and PostgreSQL."""
    with relay(postgres.port) as made:
        yield made


@pytest.fixture
def runtime(
    line: Relay, postgres: EmbeddedPostgres, settings: Settings, registry: Registry
) -> Iterator[Runtime]:
    """Of a threads pool, in this process; it speaks with PostgreSQL through the `line`."""
    url = settings.database_url.get_secret_value().replace(f":{postgres.port}/", f":{line.port}/")
    own = settings.model_copy(update={"database_url": SecretStr(url)})
    runtime = Runtime(own, registry, uuid4(), ThreadBoard(), forked=False)
    yield runtime
    runtime.hints.close()
    runtime.engine.dispose()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the workers have said."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        started: Any = item.funcargs.get("worker_nodes", ())
        for node in (*started, *filter(None, [item.funcargs.get("node")])):
            report.sections.append((node.name, node.logs()[-LAST_WORDS:]))
    return report
