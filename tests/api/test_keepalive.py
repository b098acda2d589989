"""Sockets are pinged in rounds: with a frame where one goes out, and who is silent is cut off."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.edge import Edge
from api.keepalive import PATIENCE, Keepalive
from api.wire import PING_EVERY, Wire
from tests.api.serving import served

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
LOST = (1011).to_bytes(2, "big")
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def _turn(scope: Scope, receive: Receive, send: Send) -> None:
    """Does as many turns as it is told, and says so afterwards, straight to the transport."""
    if scope["type"] != "websocket":
        return
    wire, keepalive = Wire(scope), Keepalive()
    await receive()
    await send({"type": "websocket.accept"})
    keepalive.begin(wire)
    while (message := await receive())["type"] == "websocket.receive":
        for _ in range(int(message["text"])):
            keepalive.turn()
        wire.write(message["text"])
    keepalive.end(wire)


@pytest.fixture(scope="module")
def config() -> uvicorn.Config:
    return uvicorn.Config(Edge(_turn, 1), log_config=None, lifespan="off")


@pytest.fixture(scope="module")
def port(config: uvicorn.Config) -> Iterator[int]:
    with served(config) as port:
        yield port


class Client:
    """Says and answers nothing that it is not told to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._file = connection, connection.makefile("rb")
        connection.sendall(HANDSHAKE)
        while self._file.readline() != b"\r\n":
            pass

    def say(self, first: int, payload: bytes) -> None:
        self.say_all((first, payload))

    def say_all(self, *frames: tuple[int, bytes]) -> None:
        """In one piece, each masked."""
        mask, said = bytes((1, 2, 3, 4)), b""
        for first, payload in frames:
            masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
            said += bytes((first, 0x80 | len(payload))) + mask + masked
        self._connection.sendall(said)

    def turn(self, times: int) -> None:
        self.say(TEXT, str(times).encode())

    def hear(self) -> tuple[int, bytes]:
        """The first byte and the payload of the next frame."""
        first, length = self._file.read(2)
        return first, self._file.read(length)


@contextmanager
def connected(port: int) -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield Client(connection)


def test_a_ping_rides_on_the_next_frame(port: int) -> None:
    with connected(port) as client:
        client.turn(PING_EVERY)  # the last one has it
        assert client.hear() == (TEXT, b"20")
        assert client.hear()[0] == PING
        client.turn(PATIENCE)
        assert client.hear() == (TEXT, b"4"), "it does not go out twice"


def test_a_ping_that_no_frame_takes_goes_alone(port: int) -> None:
    with connected(port) as client:
        client.turn(PING_EVERY + PATIENCE)
        assert client.hear()[0] == PING
        assert client.hear() == (TEXT, b"24")


def test_who_does_not_answer_a_ping_is_cut_off_when_the_next_one_is_due(port: int) -> None:
    with connected(port) as silent, connected(port) as alive:
        for client in (silent, alive):
            client.turn(PING_EVERY)
            assert client.hear()[0] == TEXT
        alive.say(PONG, alive.hear()[1])
        for client in (silent, alive):
            client.turn(PING_EVERY)
        assert alive.hear() == (TEXT, b"20")
        assert silent.hear()[0] == PING
        first, said = silent.hear()
        assert (first, said[:2]) == (CLOSE, LOST)


def test_an_answer_counts_alone_and_together_with_other_frames(port: int) -> None:
    with connected(port) as client:
        for is_alone in (True, False, True):
            client.turn(PING_EVERY)
            assert client.hear() == (TEXT, b"20")
            first, said = client.hear()
            assert first == PING
            client.say(PONG, b"else")
            if is_alone:
                client.say(PONG, said)
            else:
                client.say_all((PONG, said), (TEXT, b"0"))
                assert client.hear() == (TEXT, b"0")


def test_whoever_sets_another_interval_has_the_pings_of_the_server(
    port: int, config: uvicorn.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "ws_ping_interval", 3600.0)
    with connected(port) as client:
        client.turn(3 * PING_EVERY)
        assert client.hear() == (TEXT, b"60")
