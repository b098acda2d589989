"""What a process tells over Redis: everything, in order, and a burst in few words."""

import json
import math
import select
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from sqlalchemy import Connection

from dev.valkey import EmbeddedValkey
from jobs import lifecycle
from jobs.hints import EVENTS, WAKE, Hints, _Line
from jobs.lifecycle import Moved
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import make_job

BURST = 500


class Ear:
    """Remembers what it hears on both channels."""

    def __init__(self, client: redis.Redis) -> None:
        self._channel = client.pubsub()  # type: ignore[no-untyped-call]
        self._channel.subscribe(EVENTS, WAKE)
        self.heard: dict[str, list[bytes]] = {EVENTS: [], WAKE: []}
        self.subscribed = 0
        eventually(lambda: self.listen().subscribed == 2)

    def listen(self) -> "Ear":
        while (message := self._channel.get_message()) is not None:
            self._take(message)
        return self

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.subscribed += 1
        else:
            self.heard[message["channel"].decode()] += message["data"].split(b"\n")


@pytest.fixture
def ear(valkey: EmbeddedValkey) -> Iterator[Ear]:
    with redis.Redis.from_url(valkey.url) as client:
        yield Ear(client)


@pytest.fixture
def moved(connection: Connection) -> Moved:
    """An event after which a bell is due."""
    job_id = make_job(connection, JobState.RUNNING, queue="told")
    return lifecycle.interrupt(connection, job_id, attempt=1, reason="test")


@pytest.fixture(params=[False, True], ids=["by the sender", "at once"])
def at_once(request: pytest.FixtureRequest) -> bool:
    """Whether what is told goes out by itself where it can."""
    return bool(request.param)


def test_a_burst_is_told_in_order_and_wakes_seldom(
    valkey: EmbeddedValkey, ear: Ear, moved: Moved, at_once: bool
) -> None:
    hints = Hints(valkey.url, at_once=at_once)
    for seq in range(BURST):
        hints.tell([moved._replace(seq=seq)])
    eventually(lambda: len(ear.listen().heard[EVENTS]) == BURST)
    hints.close()
    assert [json.loads(each)["seq"] for each in ear.heard[EVENTS]] == [*range(BURST)]
    assert set(ear.heard[WAKE]) == {b"told"}
    assert len(ear.heard[WAKE]) < BURST / 5


def test_what_waits_is_told_before_the_end(
    valkey: EmbeddedValkey, ear: Ear, moved: Moved, at_once: bool
) -> None:
    hints = Hints(valkey.url, at_once=at_once)
    hints.tell([moved])
    hints.tell([moved._replace(seq=moved.seq + 1)])
    hints.wake(["other"])
    hints.close()
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 2)
    eventually(lambda: b"other" in ear.listen().heard[WAKE])


def test_what_more_follows_waits_for_it_or_is_roused(
    valkey: EmbeddedValkey, ear: Ear, moved: Moved, at_once: bool
) -> None:
    hints = Hints(valkey.url, at_once=at_once)
    hints.tell([moved])
    eventually(partial(_is_at_rest, hints))
    hints._sent_at = math.inf  # as if it were always just now
    hints.tell([moved._replace(seq=moved.seq + 1)], more_follow=True)
    assert len(hints._waiting) == 2  # the event, and the queue's name
    assert not hints._something.is_set()
    hints._sent_at = -math.inf
    hints.rouse()
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 2)
    hints.close()


def test_after_a_restart_of_redis_nothing_is_lost(
    valkey: EmbeddedValkey, ear: Ear, moved: Moved, at_once: bool
) -> None:
    hints = Hints(valkey.url, at_once=at_once)
    hints.tell([moved])
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 1)
    host, port = hints._line._connection._sock.getsockname()
    with redis.Redis.from_url(valkey.url) as client:
        client.client_kill(f"{host}:{port}")  # as a restart ends all of them
    hints.tell([moved._replace(seq=moved.seq + 1)])
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 2)
    hints.close()


@pytest.fixture
def connected(
    valkey: EmbeddedValkey, ear: Ear, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> Hints:
    """They tell at once, and one hint has been heard; to be closed."""
    monkeypatch.setattr("jobs.hints.GATHER", 0.0)  # nothing is too early
    hints = Hints(valkey.url, at_once=True)
    hints.tell([moved])  # the sender makes the connection
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 1)
    eventually(partial(_is_at_rest, hints))
    return hints


def _is_at_rest(hints: Hints, since: float = -math.inf) -> bool:
    """Whether the sender has sent something since then, and waits for more."""
    return hints._sent_at > since and not hints._something.is_set()


def test_what_does_not_fit_into_the_socket_is_the_senders(
    connected: Hints, ear: Ear, moved: Moved
) -> None:
    hints = connected
    made = hints._line._connection
    made._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    hints.tell([moved._replace(data={"text": "x" * 4000}, seq=seq) for seq in range(1, 500)])
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 500)
    assert hints._line._connection is made
    hints.close()


def test_what_half_a_message_loses_is_said(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        line = _Line("redis://127.0.0.1:1/0")
        line._plain = ours.fileno()
        line._poller.register(ours, select.POLLIN)
        assert line.put(b"x" * 10_000_000)
        assert not line.is_clear()
    [said] = [each.message for each in caplog.records]
    assert "of 10000000 bytes" in said


def test_a_connection_follows_another_as_often_as_need_be(valkey: EmbeddedValkey) -> None:
    """A pool of redis-py makes a hundred."""
    line = _Line(valkey.url)
    for _ in range(101):
        line.publish(b"PING\r\n")
        line.close()


def test_at_once_is_without_the_sender(
    connected: Hints, ear: Ear, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints, before = connected, connected._sent_at
    with hints._sending:  # somebody is at it: then the sender has to
        hints.tell([moved._replace(seq=moved.seq + 1)])
        assert hints._waiting
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 2)
    eventually(partial(_is_at_rest, hints, before))
    monkeypatch.setattr(hints, "_rouse", pytest.fail)
    hints.tell([moved._replace(seq=moved.seq + 2)])
    assert not hints._waiting
    eventually(lambda: len(ear.listen().heard[EVENTS]) == 3)
    hints.close()
