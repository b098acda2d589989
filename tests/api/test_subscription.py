"""The one subscription to hints ends when it is told to, at whichever moment that is."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection

from api.subscription import Subscription
from dev.valkey import EmbeddedValkey

pytestmark = pytest.mark.anyio
send = Connection._send_packed_command


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("command", [b"SUBSCRIBE", b"PING"])
async def test_a_cancel_that_comes_as_something_was_sent_is_heeded(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, command: bytes
) -> None:
    """Python 3.11 forgets it there, and the process would not end."""
    cancels = 0

    async def send_and_cancel(connection: Connection, packed: Any) -> None:
        nonlocal cancels
        packed = [*packed]
        await send(connection, packed)
        if command in b"".join(packed):
            cancels += 1
            running.cancel()

    monkeypatch.setattr("api.subscription.QUIET", 0.05)
    monkeypatch.setattr(Connection, "_send_packed_command", send_and_cancel)
    subscription = Subscription(valkey.url, on_open=lambda: None, on_message=lambda _: None)
    running = asyncio.create_task(subscription.run())
    subscription.want()
    done, _ = await asyncio.wait([running], timeout=20)
    assert done
    assert running.cancelled()
    assert cancels == 1
