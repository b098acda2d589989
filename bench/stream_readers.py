"""Many sockets in one process that cost it next to nothing: so few words as /v1/ws needs.

What comes is stamped as soon as it is here, and looked at when all is over. CLOCK_MONOTONIC is one
clock for all processes of a machine, so that stamps may be compared with those of the writer.
"""

import asyncio
import base64
import json
import os
import re
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

AT_ONCE = 32  # sockets that are opened side by side
OPEN_WITHIN = 60.0  # seconds for each of them
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_SEQ = re.compile(rb'"job_id":"([0-9a-f-]{36})","seq":([0-9]+)')


class Received(NamedTuple):
    """An event at one reader."""

    reader: int
    job_id: str
    seq: int
    at: float  #: seconds, monotonic


class Heard(NamedTuple):
    """All that came to the readers of a process from their `go` on."""

    events: list[Received]
    wire_bytes: int  #: of frames with events, headers included


class Address(NamedTuple):
    """Where, and as whom."""

    port: int
    key: str


def read_all(pipe: Connection, address: Address, jobs: Sequence[str], seconds: float) -> None:
    """One socket for each of the jobs, the same one twice included, until told how many to expect.

    Says "open"; hears how many events there will be; says what came within so many seconds.
    """
    asyncio.run(_read_all(pipe, address, jobs, seconds))


async def _read_all(
    pipe: Connection, address: Address, jobs: Sequence[str], seconds: float
) -> None:
    loop, gate, frames = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE), list[_Frame]()

    async def open_one(reader: int, job_id: str) -> _Socket:
        async with gate:
            socket = _Socket(address, reader, job_id, frames)
            await loop.create_connection(lambda: socket, "127.0.0.1", address.port)
            async with asyncio.timeout(OPEN_WITHIN):
                await socket.is_subscribed
            return socket

    sockets = await asyncio.gather(*(open_one(*each) for each in enumerate(jobs)))
    frames.clear()
    pipe.send("open")
    expected: int = await loop.run_in_executor(None, pipe.recv)
    end = loop.time() + seconds
    while len(frames) < expected and loop.time() < end:  # noqa: ASYNC110 - an Event costs more
        await asyncio.sleep(0.05)
    pipe.send(_heard(frames))
    for each in sockets:
        each.leave()


class _Frame(NamedTuple):
    reader: int
    payload: bytes
    at: float


def _heard(frames: Sequence[_Frame]) -> Heard:
    events = []
    for frame in frames:
        found = _SEQ.search(frame.payload)
        assert found, frame.payload
        events.append(Received(frame.reader, found[1].decode(), int(found[2]), frame.at))
    return Heard(events, sum(len(each.payload) + _header(len(each.payload)) for each in frames))


def _header(length: int) -> int:
    """Bytes before the payload of a server's frame (RFC 6455, 5.2)."""
    return 2 if length < 126 else 4 if length < 65536 else 10  # noqa: PLR2004 - the RFC's own


class _Socket(asyncio.Protocol):
    """A WebSocket of one subscription. It believes that frames are not split, as uvicorn's are."""

    def __init__(self, address: Address, reader: int, job_id: str, frames: list[_Frame]) -> None:
        self.is_subscribed = asyncio.get_running_loop().create_future()
        self._address, self._frames = address, frames
        self._reader, self._job_id = reader, job_id
        self._buffer, self._is_upgraded = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        nonce = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /v1/ws HTTP/1.1",
            f"Host: 127.0.0.1:{self._address.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {nonce}",
            "Sec-WebSocket-Protocol: lading.v1",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            f"Authorization: Bearer {self._address.key}",
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        self._buffer += data
        if not self._is_upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101") or b"permessage-deflate" in head.lower():
                self._fail(head.decode())
                return
            self._buffer, self._is_upgraded = rest, True
            stream = {"id": "s", "stream": f"job:{self._job_id}", "after": {"seq": 1}}
            self._send(TEXT, json.dumps({"type": "subscribe", **stream}).encode())
        while (frame := _frame(self._buffer)) is not None:
            opcode, payload, size = frame
            self._buffer = self._buffer[size:]
            self._take(opcode, payload, at)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was lost: {exc}")

    def leave(self) -> None:
        self._send(CLOSE, struct.pack("!H", 1000))
        self._transport.close()

    def _take(self, opcode: int, payload: bytes, at: float) -> None:
        if opcode == PING:
            self._send(PONG, payload)
        elif payload.startswith(b'{"type":"event"'):
            self._frames.append(_Frame(self._reader, payload, at))
        elif payload.startswith(b'{"type":"subscribed"'):
            self.is_subscribed.set_result(None)
        elif not payload.startswith(b'{"type":"welcome"'):
            self._fail(payload.decode(errors="replace"))

    def _send(self, opcode: int, payload: bytes) -> None:
        """Masked with zeroes, which is a mask too; at most 125 bytes, or 65,535 of text."""
        length = len(payload)
        head = bytes([0x80 | opcode])
        head += bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0xFE, length)  # noqa: PLR2004
        self._transport.write(head + bytes(4) + payload)

    def _fail(self, why: str) -> None:
        if not self.is_subscribed.done():
            self.is_subscribed.set_exception(ConnectionError(why))


def _frame(buffer: bytes) -> tuple[int, bytes, int] | None:
    """The first frame's opcode, payload and whole size, if it is all there."""
    if len(buffer) < 2:  # noqa: PLR2004
        return None
    length, start = buffer[1], 2
    if length == 126:  # noqa: PLR2004
        if len(buffer) < 4:  # noqa: PLR2004
            return None
        (length,), start = struct.unpack_from("!H", buffer, 2), 4
    elif length == 127:  # noqa: PLR2004
        if len(buffer) < 10:  # noqa: PLR2004
            return None
        (length,), start = struct.unpack_from("!Q", buffer, 2), 10
    size = start + length
    return (buffer[0] & 0x0F, buffer[start:size], size) if len(buffer) >= size else None
