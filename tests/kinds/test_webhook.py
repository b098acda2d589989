"""webhook.deliver against a real web server and the real tables; the worker alone is left out."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from standardwebhooks import Webhook

import kinds
from jobs.registry import load_registry
from jobs.settings import Settings, load_settings
from jobs.vault import Vault
from jobs.webhooks import deliveries, endpoints, sending, signing
from jobs.webhooks.deliveries import DeliveryView, Story
from jobs.webhooks.fanning import BusEvent, fan_out
from jobs.webhooks.sending import Parcel
from kinds import webhook, webhook_request
from kinds.webhook import WAITS, deliver
from kinds.webhook_request import EXCERPT, send
from lading import Retry
from lading.testing import Run, run
from tests.jobs.making import PROJECT
from tests.kinds.conftest import Configure
from tests.kinds.web_server import Asked, Website, reply, web_server

REGISTRY = load_registry(kinds.MODULES)
KEY = "k" * 40
VAULT = Vault([KEY])


@pytest.fixture
def site(configure: Configure, settings: Settings) -> Iterator[Website]:
    """A receiver on this machine, which may be reached."""
    configure(
        http_allow_networks="127.0.0.0/8",
        secret_key=KEY,
        database_url=settings.database_url.get_secret_value(),
    )
    webhook._vault.cache_clear()
    with web_server() as website:
        yield website
    webhook._vault.cache_clear()


class Receiver:
    """An endpoint at the site, told of one event."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        with engine.begin() as connection:
            view, self.secret = endpoints.create_endpoint(
                connection, VAULT, PROJECT, url=url, event_types=["tests.*"]
            )
            self.id = view.id
            event = {"specversion": "1.0", "id": str(uuid4()), "source": "tests"}
            told = BusEvent({**event, "type": "tests.happened", "data": {"n": 1}})
            fan_out(connection, REGISTRY, PROJECT, [told], process_id=uuid4())
            connection.execute(
                sa.text("UPDATE webhook_endpoint SET event_types = '{none}' WHERE id = :id"),
                {"id": self.id},
            )

    @property
    def delivery(self) -> DeliveryView:
        with self.engine.connect() as connection:
            page = deliveries.page_deliveries(connection, PROJECT, self.id, (), limit=2)
            (found,) = page.deliveries
            return found

    @property
    def story(self) -> Story:
        with self.engine.connect() as connection:
            return deliveries.get_story(connection, PROJECT, self.id, self.delivery.id)

    @property
    def endpoint(self) -> endpoints.EndpointView:
        with self.engine.connect() as connection:
            return endpoints.get_endpoint(connection, PROJECT, self.id)

    def attempt(self, number: int = 1, failures: int = 0) -> Run:
        """The job's attempt after so many failures, as a worker would make it."""
        delivery = self.delivery
        return run(
            deliver,
            {"delivery_id": str(delivery.id)},
            engine=self.engine,
            job_id=delivery.job_id,
            attempt=number,
            failures=failures,
        )


@pytest.fixture
def receiver(site: Website, engine: Engine) -> Receiver:
    return Receiver(engine, site.url("/hook"))


def test_a_delivery_is_signed_and_taken(site: Website, receiver: Receiver) -> None:
    site.answers["/hook"] = reply("202 Accepted", b"thanks")
    record = receiver.attempt()
    assert (record.outcome, record.result["status"]) == ("succeeded", 202)
    (asked,) = site.asked
    payload = Webhook(receiver.secret).verify(asked.body, asked.headers)
    assert (payload["type"], payload["data"], asked.method) == ("tests.happened", {"n": 1}, "POST")
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["webhook-id"] == signing.message_id(receiver.delivery.id)
    (attempt,) = receiver.story.attempts
    assert (attempt.status, attempt.error, attempt.response) == (202, None, "thanks")
    assert receiver.delivery.state == "delivered"


def test_the_schedule_is_the_specifications(site: Website, receiver: Receiver) -> None:
    site.answers["/hook"] = reply("500 Oops", b"no")
    waits = []
    for failures in range(len(WAITS)):
        before = datetime.now(UTC)
        record = receiver.attempt(failures + 1, failures)
        assert record.outcome == "retried"
        delivery = receiver.delivery
        assert (delivery.state, delivery.last_status) == ("pending", 500)
        assert delivery.next_at is not None
        waits.append(delivery.next_at - before)
        assert abs(waits[-1] - wait_of(record)) < timedelta(seconds=10)
    assert [wait / timedelta(seconds=1) for wait in WAITS] == [
        *(5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    ]
    for wait, planned in zip(waits, WAITS, strict=True):
        assert 0.9 * planned <= wait <= 1.1 * planned + timedelta(seconds=10)
    last = receiver.attempt(len(WAITS) + 1, len(WAITS))
    assert last.outcome == "failed"
    assert (receiver.delivery.state, receiver.delivery.next_at) == ("failed", None)
    assert {each.headers["webhook-id"] for each in site.asked} == {
        signing.message_id(receiver.delivery.id)
    }
    assert receiver.endpoint.failing_since is not None


def test_a_receiver_may_ask_for_more_time(site: Website, receiver: Receiver) -> None:
    site.answers["/hook"] = reply("429 Too Many Requests", retry_after="60")
    assert wait_of(receiver.attempt()) == timedelta(seconds=60)
    site.answers["/hook"] = reply("503 Later", retry_after="1")
    assert wait_of(receiver.attempt(2)) > timedelta(seconds=4)  # the schedule is the least


def wait_of(record: Run) -> timedelta:
    assert isinstance(record.error, Retry)
    assert record.error.after is not None
    return record.error.after


def test_410_ends_the_delivery_and_switches_the_endpoint_off(
    site: Website, receiver: Receiver
) -> None:
    site.answers["/hook"] = reply("410 Gone")
    assert receiver.attempt().outcome == "failed"
    assert receiver.delivery.state == "failed"
    assert (receiver.endpoint.enabled, receiver.endpoint.disabled_reason) == (False, "gone")


def test_a_redirect_is_a_failure_and_is_not_followed(site: Website, receiver: Receiver) -> None:
    site.answers["/hook"] = reply("307 Temporary Redirect", location=site.url("/other"))
    site.answers["/other"] = reply()
    assert receiver.attempt().outcome == "retried"
    assert [asked.target for asked in site.asked] == ["/hook"]
    assert "redirects are not followed" in str(receiver.delivery.last_error)


def test_a_private_address_is_refused(
    site: Website, receiver: Receiver, configure: Configure
) -> None:
    configure(http_allow_networks="10.0.0.0/8")
    assert receiver.attempt().outcome == "retried"
    assert site.asked == []
    assert "is no public address" in str(receiver.delivery.last_error)


def test_the_job_of_another_delivery_makes_none(site: Website, receiver: Receiver) -> None:
    args = {"delivery_id": str(receiver.delivery.id)}
    record = run(deliver, args, engine=receiver.engine, job_id=uuid4())
    assert record.outcome == "cancelled"
    assert site.asked == []


def test_a_delivery_without_its_key_waits_for_it(
    site: Website, receiver: Receiver, configure: Configure
) -> None:
    configure(secret_key="")
    webhook._vault.cache_clear()
    assert receiver.attempt().outcome == "retried"
    assert "LADING_SECRET_KEY" in str(receiver.delivery.last_error)
    assert site.asked == []


def parcel(url: str, *secrets: str) -> Parcel:
    return Parcel(uuid4(), 1, None, url, [*secrets], b"{}", None)


Send = Callable[..., Any]


@pytest.fixture
def send_now(site: Website) -> Send:
    networks = [load_settings().http_allow_networks[0]]

    def send_to(path: str, **options: Any) -> Any:
        return asyncio.run(send(parcel(site.url(path)), networks, **options))

    return send_to


def test_without_a_secret_there_is_no_signature(site: Website, send_now: Send) -> None:
    site.answers["/"] = reply()
    assert send_now("/").error is None
    (asked,) = site.asked
    assert "webhook-signature" not in asked.headers
    assert "webhook-id" in asked.headers


def test_a_receiver_that_says_nothing_is_given_up(site: Website, send_now: Send) -> None:
    site.answers["/"] = site.hang
    outcome = send_now("/", within=0.2)
    assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")
    assert outcome.seconds >= 0.2


def test_a_body_without_end_holds_nobody_up(site: Website, send_now: Send) -> None:
    def endless(_asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 5000

    site.answers["/"] = endless
    began = time.monotonic()
    outcome = send_now("/")
    assert (outcome.error, len(outcome.response)) == (None, EXCERPT)
    assert time.monotonic() - began < webhook_request.WITHIN / 2


def test_nobody_there_is_an_outcome_too(site: Website) -> None:
    networks = load_settings().http_allow_networks
    outcome = asyncio.run(send(parcel("http://127.0.0.1:1/"), networks))
    assert outcome.status is None
    assert "ConnectError" in str(outcome.error)


def test_what_was_never_told_stays_unsaid(site: Website, receiver: Receiver) -> None:
    """An attempt whose process died is seen: begun, and without an end."""
    site.answers["/hook"] = site.hang
    with receiver.engine.begin() as connection:
        delivery = receiver.delivery
        sending.begin(connection, VAULT, delivery.id, delivery.job_id)
    site.answers["/hook"] = reply()
    assert receiver.attempt(2).outcome == "succeeded"
    first, second = receiver.story.attempts
    assert (first.seconds, first.status, second.status) == (None, None, 200)


def test_ids_are_uuids() -> None:
    with pytest.raises(ValueError, match="delivery_id"):
        webhook.WebhookDeliverArgs.model_validate({"delivery_id": "x"})
