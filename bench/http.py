"""HTTP connections that cost next to nothing: the load must not slow down what it loads."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from dev.ports import LOOPBACK

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
LONGEST_IDLE = 2.0  # seconds; uvicorn closes a connection that nobody has used for five


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


class Connections:
    """As many as are needed at once; what is free is used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[Connection, float]] = []  #: and since when

    async def open(self, count: int) -> None:
        """So many more are free. ConnectionError where nobody listens."""
        for _ in range(count):
            self._free.append((await Connection.open(self._port), time.monotonic()))

    async def ask(self, request: bytes) -> tuple[Answer, float]:
        """The answer, and when it came (seconds, monotonic). ConnectionError when none does."""
        connection = self._take() or await Connection.open(self._port)
        answer = await connection.ask(request)
        at = time.monotonic()
        self._free.append((connection, at))
        return answer, at

    def close(self) -> None:
        """Those that are free."""
        while self._free:
            self._free.pop()[0].close()

    def _take(self) -> Connection | None:
        while self._free:
            connection, since = self._free.pop()
            if not connection.is_lost and time.monotonic() - since < LONGEST_IDLE:
                return connection
            connection.close()
        return None


def read_id(answer: Answer) -> str:
    """Of an accepted job. AssertionError when it was not."""
    (found,) = read_ids(answer)
    return found


def read_ids(answer: Answer) -> list[str]:
    """Of an accepted job, or of all jobs of a batch. AssertionError when it was not."""
    assert answer.status == 202, answer  # noqa: PLR2004 - Accepted
    found = json.loads(answer.body)
    return [str(each["id"]) for each in found.get("jobs", [found])]


def read_status(answer: Answer) -> str:
    """Of a job: ours says `state`. Empty where the API does not know it yet."""
    if answer.status != 200:  # noqa: PLR2004 - OK
        return ""
    found = json.loads(answer.body)
    return str(found.get("state") or found.get("status"))
