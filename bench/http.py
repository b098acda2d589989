"""HTTP connections that cost next to nothing: the load must not slow down what it loads."""

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple

from dev.ports import LOOPBACK

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    body: bytes


class Address(NamedTuple):
    """Where the API is, and what every request says."""

    port: int
    headers: Mapping[str, str]

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request."""
        headers = {"Host": f"{LOOPBACK}:{self.port}", **self.headers}
        if body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {v}" for name, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """Kept alive; one request at a time. Answers must say their Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[Answer] | None = None
        self.is_lost = False  #: the server has closed it, as it does with one that is idle

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """ConnectionError where nobody listens."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, LOOPBACK, port))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> Answer:
        """The answer. ConnectionError when the server closes instead."""
        if self.is_lost:
            raise ConnectionError("the API has closed the connection")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(_HEAD_END)
        if not end:
            return
        start = head.lower().index(_LENGTH) + len(_LENGTH)
        length = int(head[start:].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            waiter.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(f"the API closed the connection: {exc}"))


def read_id(answer: Answer) -> str:
    """Of an accepted job. AssertionError when it was not."""
    assert answer.status == 202, answer  # noqa: PLR2004 - Accepted
    return str(json.loads(answer.body)["id"])


def read_status(answer: Answer) -> str:
    """Of a job: ours says `state`. Empty where the API does not know it yet."""
    if answer.status != 200:  # noqa: PLR2004 - OK
        return ""
    found = json.loads(answer.body)
    return str(found.get("state") or found.get("status"))
