"""The load, made in a process of its own: closed loop for rates, open loop for latency."""

import asyncio
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from bench.http import Address, Connection, Connections, read_id, read_ids, read_status

LATEST = 30.0  # seconds until a job of the open loop is final
FIRST_LOOK, SLOWER = 0.001, 0.05  # seconds; and as a share of the time so far
SPARE = 8  # connections that are open before the open loop begins


class Submitted(NamedTuple):
    """Jobs that were all accepted."""

    ids: Sequence[str]  #: in the order of the answers, nearly
    began: float  #: seconds, monotonic
    seconds: float
    answer_seconds: Sequence[float]  #: of each request
    cpu_seconds: float  #: of the generator


class Timed(NamedTuple):
    """A job of the open loop; seconds from the sending of its POST."""

    late: float  #: how much later than due it was sent
    answered: float
    started: float
    final: float


class Order(NamedTuple):
    """How jobs are asked for."""

    address: Address
    path: str
    body: bytes  #: with `{token}` in it

    def submit(self, token: str = "") -> bytes:
        """The request for one job."""
        return self.address.request(
            "POST", self.path, self.body.replace(b"{token}", token.encode())
        )

    def submit_many(self, path: str, size: int) -> bytes:
        """The request for so many jobs in one batch."""
        job = self.body.replace(b"{token}", b"")
        return self.address.request("POST", path, b'{"jobs":[%b]}' % b",".join([job] * size))

    def look(self, job_id: str) -> bytes:
        """The request for its status."""
        return self.address.request("GET", f"{self.path}/{job_id}")


def make_executor() -> ProcessPoolExecutor:
    """One process for all the load."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def submit(order: Order, count: int, connections: int, token: str = "") -> Submitted:
    """So many jobs, by so many connections, each as soon as the one before it is answered.

    The first of them has the token.
    """
    return asyncio.run(_submit(order, count, connections, token))


def submit_batches(order: Order, path: str, batches: int, size: int, connections: int) -> Submitted:
    """So many batches of so many jobs, in the same way."""
    request = order.submit_many(path, size)
    return asyncio.run(_drive(order.address, request, request, batches, connections))


def submit_to_each(orders: Sequence[Order], count: int, connections: int) -> list[Submitted]:
    """So many jobs by so many connections at each of the APIs, at once."""

    async def run() -> list[Submitted]:
        return await asyncio.gather(*(_submit(each, count, connections, "") for each in orders))

    return asyncio.run(run())


async def _submit(order: Order, count: int, connections: int, token: str) -> Submitted:
    return await _drive(order.address, order.submit(token), order.submit(), count, connections)


async def _drive(
    address: Address, first: bytes, request: bytes, count: int, connections: int
) -> Submitted:
    open_ones = [await Connection.open(address.port) for _ in range(connections)]
    answers, seconds, sent = [], [], 0

    async def drive(connection: Connection) -> None:
        nonlocal sent
        while sent < count:
            sent += 1
            asked = time.monotonic()
            answers.append(await connection.ask(request if sent > 1 else first))
            seconds.append(time.monotonic() - asked)

    cpu, began = time.process_time(), time.monotonic()
    await asyncio.gather(*map(drive, open_ones))
    ended, cpu = time.monotonic(), time.process_time() - cpu
    for each in open_ones:
        each.close()
    ids = [each for answer in answers for each in read_ids(answer)]
    return Submitted(ids, began, ended - began, seconds, cpu)


def await_final(order: Order, job_id: str, final: frozenset[str], within: float) -> float:
    """When the job was seen to be final (seconds, monotonic). TimeoutError."""
    return asyncio.run(_await_final(order, job_id, final, within))


async def _await_final(order: Order, job_id: str, final: frozenset[str], within: float) -> float:
    connection = await Connection.open(order.address.port)
    async with asyncio.timeout(within):
        while read_status(await connection.ask(order.look(job_id))) not in final:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    connection.close()
    return time.monotonic()


def open_loop(
    order: Order, marks: str, final: frozenset[str], *, rate: float, seconds: float
) -> list[Timed]:
    """Jobs at that rate, whatever becomes of them; each with its times. TimeoutError."""
    return asyncio.run(_open_loop(order, marks, final, rate, seconds))


async def _open_loop(
    order: Order, marks: str, final: frozenset[str], rate: float, seconds: float
) -> list[Timed]:
    loop, connections = asyncio.get_running_loop(), Connections(order.address.port)
    started: dict[str, asyncio.Future[float]] = {}
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Listener(started), sock=listen_for_marks(marks)
    )
    await connections.open(SPARE)

    async def one(number: int, due: float) -> Timed:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        token = f"t{number}"
        started[token] = loop.create_future()
        sent = time.monotonic()
        accepted, answered = await connections.ask(order.submit(token))
        look = order.look(read_id(accepted))
        start = await started[token]
        while True:
            answer, at = await connections.ask(look)
            if read_status(answer) in final:
                return Timed(sent - due, answered - sent, start - sent, at - sent)
            await asyncio.sleep(max(FIRST_LOOK, SLOWER * (at - sent)))

    begin = time.monotonic() + 0.1
    async with asyncio.timeout(seconds + LATEST):
        found = await asyncio.gather(
            *(one(number, begin + number / rate) for number in range(int(rate * seconds)))
        )
    transport.close()
    connections.close()
    return found


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, started: dict[str, asyncio.Future[float]]) -> None:
        self._started = started

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        token, at = data.decode().split()
        future = self._started.get(token)
        if future is not None and not future.done():  # a second attempt is none
            future.set_result(float(at))


def listen_for_marks(path: str) -> socket.socket:
    """A datagram socket there, open to all; it does not block."""
    Path(path).unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(path)
    found.settimeout(0)  # not blocking
    return found


def await_mark(listener: socket.socket, token: str, within: float) -> float:
    """When the job with the token started (seconds, monotonic). TimeoutError."""
    listener.settimeout(within)
    while True:
        found, at = listener.recv(256).decode().split()
        if found == token:
            return float(at)
