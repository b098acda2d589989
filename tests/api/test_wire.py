"""Short frames that go straight to the transport are the ones that the server would have sent."""

from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from api.edge import Edge
from api.wire import Wire, frame_head, text_frame
from tests.api.serving import served

TEXTS = ["", "a", "ä" * 62, "b" * 125, "c" * 126, "ü€" * 1000, "d" * 65535, "e" * 65536]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_a_frame_begins_as_the_protocol_says(length: int) -> None:
    payload = b"x" * length
    assert frame_head(length) + payload == Frame(Opcode.TEXT, payload).serialize(mask=False)


async def _say_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Which way the wire takes, the texts by it, and one the usual way."""
    if scope["type"] != "websocket":
        return
    wire = Wire(scope)
    await receive()
    is_early = wire.write("too early")
    await send({"type": "websocket.accept"})
    await send(text_frame(f"direct {wire.is_direct}, early {is_early}"))
    for text in TEXTS:
        if not wire.write(text):
            await wire.send(text_frame(text))
    await send(text_frame("usual"))
    await send({"type": "websocket.close", "code": 1000})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(uvicorn.Config(Edge(_say_all, 1), log_config=None, lifespan="off")) as port:
        yield port


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_client_gets_each_text_whole_and_in_order(port: int, compression: str | None) -> None:
    with connect(f"ws://127.0.0.1:{port}/", compression=compression) as client:
        heard = [*client]
    assert heard == [f"direct {compression is None}, early False", *TEXTS, "usual"]
