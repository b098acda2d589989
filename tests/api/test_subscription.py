"""The one subscription to hints ends when it is told to, at whichever moment that is."""

import asyncio
from asyncio import StreamWriter
from collections.abc import Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from api.subscription import Subscription
from dev.valkey import EmbeddedValkey
from jobs.hints import EVENTS

pytestmark = pytest.mark.anyio
drain, writelines = StreamWriter.drain, StreamWriter.writelines


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("command", ["SUBSCRIBE", "PING"])
async def test_a_cancel_that_comes_as_something_was_sent_is_heeded(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Inside asyncio.wait_for, Python 3.11 forgets it there, and the process would not end."""
    cancels, is_written = 0, False

    def write(writer: StreamWriter, lines: Iterable[bytes]) -> None:
        nonlocal is_written
        lines = [*lines]
        is_written = command.encode() in b"".join(lines)
        writelines(writer, lines)

    async def drain_and_cancel(writer: StreamWriter) -> None:
        nonlocal cancels
        await drain(writer)
        if is_written:
            cancels += 1
            running.cancel()

    monkeypatch.setattr("api.subscription.QUIET", 0.05)
    monkeypatch.setattr(StreamWriter, "writelines", write)
    monkeypatch.setattr(StreamWriter, "drain", drain_and_cancel)
    subscription = Subscription(valkey.url, on_open=lambda: None, on_message=lambda _: None)
    running = asyncio.create_task(subscription.run())
    subscription.want()
    done, _ = await asyncio.wait([running], timeout=20)
    assert done
    assert running.cancelled()
    assert cancels == 1


async def test_hints_go_on_after_one_that_could_not_be_handed_on(valkey: EmbeddedValkey) -> None:
    opened, heard = asyncio.Queue[None](), asyncio.Queue[bytes]()
    loop, flaw, flaws = asyncio.get_running_loop(), RuntimeError("broken"), list[Any]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: flaws.append(context["exception"]))

    def hear(hint: bytes) -> None:
        heard.put_nowait(hint)
        if hint == b"bad":
            raise flaw

    subscription = Subscription(
        valkey.url, on_open=lambda: opened.put_nowait(None), on_message=hear
    )
    running = asyncio.create_task(subscription.run())
    subscription.want()
    async with asyncio.timeout(30), Redis.from_url(valkey.url) as client:
        for hint in (b"bad", b"good"):
            await opened.get()  # anew: whoever listens looks for what was said in between
            await client.publish(EVENTS, hint)
            assert await heard.get() == hint
    running.cancel()
    await asyncio.wait([running])
    loop.set_exception_handler(handler)
    assert flaws == [flaw], "and it is told of"


async def test_every_one_of_many_hints_is_heard_in_order(valkey: EmbeddedValkey) -> None:
    heard: list[bytes] = []
    opened, done = asyncio.Event(), asyncio.Event()

    def hear(hint: bytes) -> None:
        heard.append(hint)
        if hint == b"2999":
            done.set()

    subscription = Subscription(valkey.url, on_open=opened.set, on_message=hear)
    running = asyncio.create_task(subscription.run())
    subscription.want()
    async with asyncio.timeout(30), Redis.from_url(valkey.url) as client:
        await opened.wait()
        for first in range(0, 3000, 2):
            await client.publish(EVENTS, f"{first}\n{first + 1}")
        await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert heard == [str(number).encode() for number in range(3000)]
