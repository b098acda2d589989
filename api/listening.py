"""What a Redis connection that listens is told, handed on in the callback that reads it.

Answers are taken apart by hiredis where the bytes come in: no task is woken for them, and nothing
stands between. While many hints come, the connection is read only every GATHER, so that those of a
moment share what it costs a process to wake up.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from jobs.pace import Pace

BUSY = 300  # hints a second; beyond, the connection is read every GATHER
GATHER = 0.008  # seconds; a lone job's hints never wait
BURST = 64  # hints, after which other callbacks have their turn


class Listening(asyncio.Protocol):
    """Takes a connection over from its protocol, until `end`. For the event loop's thread alone."""

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        on_open: Callable[[], None],
        on_message: Callable[[bytes], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        #: And why: RedisError or OSError.
        self.is_over: asyncio.Future[Exception] = loop.create_future()
        self.answers = 0  #: of any kind, so far
        self._loop, self._transport = loop, transport
        self._before = transport.get_protocol()
        self._on_open, self._on_message = on_open, on_message
        self._reader, self._pace = hiredis.Reader(), Pace(BUSY, loop.time())
        self._later: asyncio.Handle | None = None
        transport.set_protocol(self)

    def end(self) -> None:
        """The connection is its former protocol's again, which may close it."""
        if self._later is not None:
            self._later.cancel()
        self._transport.set_protocol(self._before)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._reader.feed(data)
        if self._later is None:
            self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._give_up(exc or RedisConnectionError("Redis has closed the connection"))
        self._before.connection_lost(exc)

    def _give_up(self, why: Exception) -> None:
        if not isinstance(why, RedisError | OSError):  # what `on_message` has raised ends in here
            flaw, why = why, RedisError(f"a hint could not be handed on: {why!r}")
            why.__cause__ = flaw
        if not self.is_over.done():
            self.is_over.set_result(why)

    def _take(self) -> None:
        """What is there, a part at a time; then the connection is read again, or a little later."""
        taken = 0
        while taken < BURST:
            try:
                answer = self._reader.gets()
            except hiredis.ProtocolError as error:
                self._give_up(RedisError(f"Redis is not understood: {error}"))
                return
            if answer is False:
                break
            taken += self._hear(answer)
        if not taken:
            return
        self._pace.count(taken)
        if taken >= BURST:
            self._transport.pause_reading()
            self._later = self._loop.call_soon(self._go_on)
        elif self._pace.is_busy_at(self._loop.time()):
            self._transport.pause_reading()
            self._later = self._loop.call_later(GATHER, self._go_on)

    def _go_on(self) -> None:
        self._later = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._take()

    def _hear(self, answer: Any) -> int:
        """How many hints it was."""
        self.answers += 1
        match answer:
            case [b"message", _, bytes(said)]:
                lines = said.split(b"\n")
                for line in lines:
                    self._on_message(line)
                return len(lines)
            case [b"subscribe", *_]:
                self._on_open()
            case hiredis.ReplyError():
                self._give_up(RedisError(str(answer)))
        return 0
