"""Doorbells against a real broker: what they carry, their order, and the broker's absences."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from kombu import Connection, Producer
from pydantic import SecretStr

from dev.ports import LOOPBACK, free_port
from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs import broker, messages
from jobs.broker import Bell, Broker
from jobs.errors import BrokerUnavailable
from jobs.settings import Settings


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[EmbeddedValkey]:
    """One that this module's tests may kill and wipe."""
    with temporary_valkey() as server:
        yield server


@pytest.fixture
def own_settings(own_valkey: EmbeddedValkey) -> Settings:
    return Settings(
        database_url=SecretStr("postgresql://nowhere/none"), broker_url=SecretStr(own_valkey.url)
    )


@pytest.fixture
def rings(own_settings: Settings, own_valkey: EmbeddedValkey) -> Iterator[Broker]:
    rings = Broker(own_settings)
    if own_valkey.pid is None:
        own_valkey.start()
    rings._redis.flushall()
    yield rings
    rings.close()


def bell(priority: int = 5, *, queue: str = "default") -> Bell:
    return Bell(queue, "test.echo", ((uuid4(), 1),), priority)


def hear(settings: Settings, queue: str = "default") -> list[Any]:
    """The messages in the order in which a worker gets them."""
    options = broker.transport_options()
    heard = []
    with Connection(settings.broker_url.get_secret_value(), transport_options=options) as way:
        channel: Any = way.channel()
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            heard.append(message)
    return heard


def named(messages: list[Any]) -> list[tuple[UUID, int]]:
    return [attempt for each in messages for attempt in broker.read_attempts(each.payload[0])]


def test_a_bell_names_attempts_and_nothing_else(rings: Broker, own_settings: Settings) -> None:
    job_id = uuid4()
    rings.ring([Bell("default", "test.secret", ((job_id, 3),), 5)])
    [message] = hear(own_settings)
    assert message.payload[0] == [[[str(job_id), 3]]]
    assert message.payload[1] == {}
    assert message.headers["task"] == "test.secret"
    assert broker.read_task_id(message.headers["id"]) == (job_id, 3)
    assert message.headers["id"] == broker.task_id(job_id, 3)
    assert message.headers["ignore_result"] is True
    assert message.headers["argsrepr"] == "(1 attempt)"


def test_a_list_of_attempts_is_one_bell(rings: Broker, own_settings: Settings) -> None:
    attempts = tuple((uuid4(), number) for number in range(1, 4))
    rings.ring([Bell("default", "test.echo", attempts, 5)])
    [message] = hear(own_settings)
    assert broker.read_attempts(message.payload[0]) == attempts
    assert message.headers["id"] == broker.task_id(*attempts[0])
    assert message.headers["timelimit"] == [None, None], "it would strike a claim or a report"


def test_the_highest_priority_comes_first_and_equals_in_order(
    rings: Broker, own_settings: Settings
) -> None:
    bells = [bell(priority) for priority in (0, 5, 9, 4, 5, 3, 8, 1, 7, 6, 2, 5)]
    rings.ring(bells)
    wanted = sorted(bells, key=lambda each: -each.priority)  # stable
    assert named(hear(own_settings)) == [each.attempts[0] for each in wanted]


def test_celery_reads_what_kombu_was_given(rings: Broker, own_settings: Settings) -> None:
    app = Celery("reader", set_as_current=False)
    app.conf.update(broker.configuration(own_settings))
    rung = bell()
    rings.ring([rung])
    received: list[Any] = []
    with app.connection_for_read() as way:
        consumer = app.amqp.TaskConsumer(way.channel(), queues=[app.amqp.queues["default"]])
        consumer.on_message = received.append
        with consumer:
            way.drain_events(timeout=30)
            received[0].ack()
    assert named(received) == [rung.attempts[0]]
    assert rings.queue_length("default") == 0


def test_the_length_counts_every_priority_of_one_queue(rings: Broker) -> None:
    rings.ring([bell(priority) for priority in range(10)] + [bell(queue="other")])
    assert rings.queue_length("default") == 10
    assert rings.queue_length("other") == 1


def test_what_hangs_can_be_read(rings: Broker) -> None:
    several = Bell("default", "test.echo", ((uuid4(), 2), (uuid4(), 1)), 9)
    bells = [*(bell(priority) for priority in range(10)), several]
    rings.ring([*bells, bell(queue="other")])
    wanted = sorted(attempt for each in bells for attempt in each.attempts)
    assert sorted(rings.list_hanging(["default"])) == wanted
    assert len(rings.list_hanging(["default", "other"])) == len(wanted) + 1
    assert rings.list_hanging([]) == []
    assert rings.queue_length("default") == len(bells)  # and hangs there still


NO_NUMBER = messages.write(
    "default",
    "test.echo",
    [(str(UUID(int=1)), math.inf)],  # type: ignore[list-item]
    task="nobody",
    place=0,
    is_limited=False,
    origin="somebody",
)
NO_BELLS = {
    "no JSON": "no JSON",
    "too deep": "[" * 100_000,
    "no body": "{}",
    "nobody named": '{"body": "W10="}',
    "no pairs": '{"body": "W1sxXV0="}',
    "no number": NO_NUMBER,
}


@pytest.mark.parametrize("words", NO_BELLS.values(), ids=NO_BELLS)
def test_what_is_no_bell_of_ours_is_no_attempt(rings: Broker, words: str) -> None:
    rings._redis.lpush("default", words)
    rung = bell()
    rings.ring([rung])
    assert rings.list_hanging(["default"]) == [rung.attempts[0]]


def test_thousands_of_bells_go_out_in_a_few_pieces(rings: Broker) -> None:
    rings.ring([bell()])
    before = rings._redis.info("commandstats")["cmdstat_lpush"]["calls"]
    bells = [bell() for _ in range(3 * broker.BATCH + 1)]
    rings.ring(bells)
    after = rings._redis.info("commandstats")["cmdstat_lpush"]["calls"]
    assert after - before == 4
    assert rings.queue_length("default") == len(bells) + 1


@pytest.mark.parametrize(
    ("queue", "kind"),
    [("default", "test.echo"), ("ein Brett", "90%.sicher"), ("a%sb", 'ä"\\u0000')],
)
@pytest.mark.parametrize("is_limited", [False, True])
def test_a_message_is_celerys_and_kombus_to_the_byte(
    rings: Broker, own_settings: Settings, queue: str, kind: str, is_limited: bool
) -> None:
    for priority in (0, 5, 9):
        for count in (1, 3):
            attempts = tuple((uuid4(), number) for number in range(1, count + 1))
            one = Bell(queue, kind, attempts, priority, is_limited)
            rings.ring([one])
            publish(own_settings, one, rings._origin)
            key = broker.lists_of(queue)[broker.FIRST_PRIORITY - priority]
            theirs, ours = rings._redis.lrange(key, 0, -1)
            rings._redis.delete(key)
            assert without_tag(ours) == without_tag(theirs)


def publish(settings: Settings, one: Bell, origin: str) -> None:
    """As Celery and kombu send it."""
    app = Celery("publisher", set_as_current=False)
    app.conf.update(broker.configuration(settings))
    named = len(one.attempts)
    headers, properties, body, _ = app.amqp.as_task_v2(
        broker.task_id(*one.attempts[0]),
        one.kind,
        args=([[str(job_id), attempt] for job_id, attempt in one.attempts],),
        argsrepr="(1 attempt)" if named == 1 else f"({named} attempts)",
        kwargs={"is_limited": True} if one.is_limited else {},
        kwargsrepr="{}",
        origin=origin,
        ignore_result=True,
    )
    with app.connection_for_write() as way:
        Producer(way.channel(), auto_declare=False).publish(
            body,
            serializer="json",
            exchange="",
            routing_key=one.queue,
            headers=headers,
            priority=broker.FIRST_PRIORITY - one.priority,
            **properties,
        )


def without_tag(message: Any) -> Any:
    """Each message has a tag of its own, which is nobody's concern."""
    tag = json.loads(message)["properties"]["delivery_tag"]
    assert str(UUID(tag)) == tag
    return message.replace(tag.encode(), b"")


def test_a_dead_broker_is_said_so_soon_and_found_again(
    rings: Broker, own_valkey: EmbeddedValkey
) -> None:
    rings.ring([bell()])
    own_valkey.kill()
    for call in (
        lambda: rings.ring([bell()]),
        lambda: rings.queue_length("default"),
        rings.life,
        lambda: rings.list_hanging(["default"]),
    ):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            call()
        assert time.monotonic() - began < 2
    own_valkey.start()
    rings.ring([bell(), bell()])
    assert rings.queue_length("default") == 2


def test_a_broker_that_was_never_there_is_found_too(own_valkey: EmbeddedValkey) -> None:
    own_valkey.kill()
    settings = Settings(
        database_url=SecretStr("postgresql://nowhere/none"), broker_url=SecretStr(own_valkey.url)
    )
    rings = Broker(settings)
    with pytest.raises(BrokerUnavailable):
        rings.ring([bell()])
    own_valkey.start()
    rings.ring([bell()])
    assert rings.queue_length("default") == 1


def test_a_restart_and_a_wipe_are_new_lives(rings: Broker, own_valkey: EmbeddedValkey) -> None:
    epoch = uuid4()
    rings.begin_epoch(epoch)
    first = rings.life()
    assert first.epoch == epoch
    rings._redis.flushall()
    assert rings.life() == (first.run_id, None)
    own_valkey.kill()
    own_valkey.start()
    assert rings.life().run_id != first.run_id


def test_a_password_does_not_show_in_the_error() -> None:
    url = SecretStr(f"redis://:hush@{LOOPBACK}:{free_port()}/0")
    rings = Broker(Settings(database_url=SecretStr("postgresql://nowhere/none"), broker_url=url))
    with pytest.raises(BrokerUnavailable) as caught:
        rings.life()
    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"
