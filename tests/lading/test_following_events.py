"""Events, followed by the client and on the command line."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from uuid import uuid4

import pytest

from lading import AsyncClient, Client, NotFound
from lading.client import Conflict
from tests.api.serving import Api
from tests.eventually import eventually
from tests.lading.gateway import EVENT_STREAM, Canned, Gateway, Seen, cutting, gateway
from tests.lading.handwork import Background
from tests.lading.shell import Run

END = 0


@pytest.fixture
def kind() -> str:
    return f"t{uuid4().hex}"


def publish(client: Client, kind: str, *values: int) -> None:
    for value in values:
        client.publish(f"{kind}.made", value)


def test_a_consumer_has_acknowledged_what_was_done_with(client: Client, kind: str) -> None:
    publish(client, kind, 1, 2)
    name = f"c-{kind}"
    with closing(client.follow_events(f"{kind}.*", after="oldest", consumer=name)) as events:  # type: ignore[type-var]
        assert [each.event["data"] for each in islice(events, 2)] == [1, 2]
    assert client.consumer(name).acknowledged_at is None, "the second may not be done with"
    with closing(client.follow_events(f"{kind}.*", consumer=name)) as events:  # type: ignore[type-var]
        assert [each.event["data"] for each in islice(events, 2)] == [1, 2], "so they come again"


def test_who_is_replaced_is_told(client: Client, kind: str) -> None:
    publish(client, kind, 1)
    name = f"c-{kind}"
    older = client.follow_events(f"{kind}.*", after="oldest", consumer=name)
    assert next(older).event["data"] == 1
    page = client.events_after("oldest", [f"{kind}.*"], consumer=name)
    with pytest.raises(Conflict):
        next(older)
    assert page.member is not None
    kept = client.acknowledge(name, page.position, page.member)
    assert (kept.position, kept.types) == (page.position, [f"{kind}.*"])
    assert name in {each.name for each in client.consumers()}
    client.delete_consumer(name)
    with pytest.raises(NotFound):
        client.consumer(name)


def test_events_are_followed_in_an_event_loop(api: Api, client: Client, kind: str) -> None:
    publish(client, kind, 1, 2)

    async def first_two() -> list[int]:
        found: list[int] = []
        async with AsyncClient(api.url, api.key) as awaited:
            async for event in awaited.follow_events(f"{kind}.*", after="oldest"):
                found.append(event.event["data"])
                if len(found) == 2:
                    break
        return found

    assert asyncio.run(first_two()) == [1, 2]


def test_the_command_line_follows_until_it_is_replaced(
    lading: Run, client: Client, background: Background, kind: str
) -> None:
    publish(client, kind, 1)
    name = f"c-{kind}"

    def is_acknowledged() -> bool:
        found = [each for each in client.consumers() if each.name == name]
        return bool(found) and found[0].acknowledged_at is not None

    def replace() -> None:
        eventually(is_acknowledged, within=30)
        client.delete_consumer(name)
        publish(client, kind, 2)

    background(replace)
    options = ("--type", f"{kind}.*", "--after", "oldest", "--consumer", name, "--json")
    done = lading("events", "--follow", *options)
    assert done.code != 0
    assert [json.loads(line)["event"]["data"] for line in done.out.splitlines()] == [1, 2]


def test_the_command_line_lists_events_of_a_type(lading: Run, client: Client, kind: str) -> None:
    publish(client, kind, 1)
    event = lading("events", "--type", f"{kind}.*", "--json").json
    assert event["event"]["data"] == 1
    assert lading("events", "--after", "oldest").code == 2, "it goes with --follow"


class Follower:
    """Follows events in a thread, up to the one that says END; `values` are those before it."""

    def __init__(self, client: Client, kind: str) -> None:
        self.values: list[int] = []
        self._events = client.follow_events(f"{kind}.*", after="oldest")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with closing(self._events):  # type: ignore[type-var]
            for event in self._events:
                if event.event["data"] == END:
                    return
                self.values.append(event.event["data"])

    def has(self, *values: int) -> None:
        """It has seen these, each once, in this order, and no others."""
        eventually(lambda: len(self.values) >= len(values), within=30)
        assert self.values == [*values]

    def end(self) -> None:
        self._thread.join(40)
        assert not self._thread.is_alive()


@contextmanager
def following(through: Client, client: Client, kind: str) -> Iterator[Follower]:
    """A follower `through` what lies between; the other client reaches the API as it is."""
    follower = Follower(through, kind)
    try:
        yield follower
    finally:
        publish(client, kind, END)
        follower.end()


def test_events_come_by_one_stream_as_they_are_published(
    api: Api, client: Client, kind: str
) -> None:
    publish(client, kind, 1)
    with (
        gateway(api.url) as between,
        Client(between.url, api.key) as through,
        following(through, client, kind) as follower,
    ):
        eventually(lambda: len(streams(between)) == 1, within=30)
        for value in range(2, 12):
            publish(client, kind, value)
            follower.has(*range(1, value + 1))
        assert len(between.seen) == 3, "a page, an empty one, and the stream"


def test_what_breaks_a_stream_costs_no_event(api: Api, client: Client, kind: str) -> None:
    port, budgets = int(api.url.rpartition(":")[2]), iter([1, 2000, 2500, 3000])
    with (
        cutting(port, budgets) as between,
        Client(f"http://127.0.0.1:{between.port}", api.key) as through,
        following(through, client, kind) as follower,
    ):
        for value in range(1, 21):
            publish(client, kind, value)
            follower.has(*range(1, value + 1))
        assert between.cuts == 4


def test_where_streams_are_refused_events_are_asked_for(
    api: Api, client: Client, kind: str
) -> None:
    with (
        gateway(api.url) as between,
        Client(between.url, api.key) as through,
    ):
        between.to_streams = Canned(502)
        with following(through, client, kind) as follower:
            for value in range(1, 4):
                publish(client, kind, value)
                follower.has(*range(1, value + 1))
            eventually(lambda: len(between.seen) >= 10, within=30)
            assert len(streams(between)) <= 3


def streams(between: Gateway) -> list[Seen]:
    return [each for each in between.seen if each.headers.get("accept") == EVENT_STREAM]
