"""Events, followed by the client and on the command line."""

import asyncio
import json
from contextlib import closing
from itertools import islice
from uuid import uuid4

import pytest

from lading import AsyncClient, Client, NotFound
from lading.client import Conflict
from tests.api.serving import Api
from tests.eventually import eventually
from tests.lading.handwork import Background
from tests.lading.shell import Run


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
