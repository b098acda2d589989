"""A delivery by a real worker that is killed after the request and before its report."""

from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from standardwebhooks import Webhook

from jobs import lifecycle
from jobs.broker import Bell
from jobs.settings import Settings
from jobs.vault import Vault
from jobs.views import JobView
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.fanning import BusEvent, fan_out
from tests.eventually import eventually
from tests.kinds.web_server import Asked, Website, reply, web_server
from tests.worker.nodes import WorkerNode
from tests.worker.platform import PROJECT, Platform

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"http_allow_networks": (IPv4Network("127.0.0.0/8"),)})


@pytest.fixture
def site() -> Iterator[Website]:
    with web_server() as website:
        yield website


@pytest.fixture
def node(settings: Settings, platform: Platform) -> Iterator[WorkerNode]:
    node = WorkerNode(settings, "threads")
    node.ready()
    yield node
    node.teardown()


def story(engine: Engine, webhook_id: UUID) -> Any:
    with engine.connect() as connection:
        page = deliveries.page_deliveries(connection, PROJECT, webhook_id, (), limit=2)
        (delivery,) = page.deliveries
        return deliveries.get_story(connection, PROJECT, webhook_id, delivery.id)


def ring(platform: Platform, job: JobView, attempt: int) -> None:
    """A job of a limited key starts with a mark alone, which the dispatcher makes."""
    platform.execute("UPDATE job SET rung_at = clock_timestamp() WHERE id = :id", id=job.id)
    platform.broker.ring([Bell(job.queue, job.kind, ((job.id, attempt),), job.priority)])


def test_a_worker_killed_after_the_request_sends_the_same_id_again(
    settings: Settings, platform: Platform, node: WorkerNode, site: Website
) -> None:
    engine = platform.engine

    def kill(_asked: Asked) -> bytes:
        node.kill()
        return b""

    site.answers["/hook"] = kill
    with engine.begin() as connection:
        view, secret = endpoints.create_endpoint(
            connection, Vault.of(settings), PROJECT, url=site.url("/hook"), event_types=["*"]
        )
        document = {"specversion": "1.0", "id": "1", "source": "tests", "type": "user.created"}
        event = BusEvent({**document, "data": {"n": 1}})
        ((job,),) = fan_out(connection, platform.registry, PROJECT, [event], process_id=uuid4())
    ring(platform, job, 1)
    eventually(lambda: node.process.poll() is not None, within=30)
    site.answers["/hook"] = reply()
    platform.execute(
        "UPDATE job SET lease_until = now() - interval '1 minute' WHERE id = :i", i=job.id
    )
    with engine.begin() as connection:
        (moved,) = lifecycle.rescue(connection, 10, timedelta())
    assert moved.type == "crashed"
    node.start()
    ring(platform, job, 2)

    told = eventually(lambda: _when_delivered(engine, view.id), within=60)
    first, second = site.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    for asked in site.asked:
        Webhook(secret).verify(asked.body, asked.headers)
    assert [(each.number, each.status) for each in told.attempts] == [(1, None), (2, 200)]


def _when_delivered(engine: Engine, webhook_id: UUID) -> Any:
    told = story(engine, webhook_id)
    return told if told.delivery.state == "delivered" else None
