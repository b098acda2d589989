"""Hints: what has just been committed, told over Redis to whoever listens. They may be lost.

Streams and the dispatcher are right without them, only slower. One background sender per process;
nobody who commits ever waits for Redis. Three channels. EVENTS carries each event as streams send
it, so that they need not write it anew, several as lines; `data` is left out where it is large or a
log's, then the reader takes it from PostgreSQL; that the bus has something new is said as
PUBLISHED. WAKE carries the name of a queue that has something new, CANCEL the running attempt that
somebody asks to end, as `<job id>:<attempt>`.
"""

import logging
import math
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import redis

from jobs.forks import busy
from jobs.redis_connection import redis_connection
from jobs.views import EventView

EVENTS = "lading:events"
WAKE = "lading:wake"
CANCEL = "lading:cancel"
PUBLISHED = b"published"  # said on EVENTS when there are new events of the bus
BUS = "@bus"  # said on WAKE when some of them wait for a dispatcher; no queue is called that
SCHEDULES = "@schedules"  # said on WAKE when a schedule has changed; no queue is called that
MAX_BYTES = 4096  # of a hint; with more it would be a broadcast
LINES = 64  # events of one message: a publication costs more than it says
MAX_WAITING = 10_000  # hints; beyond, the oldest go: their readers look into PostgreSQL anyway
TIMEOUT = 1.0  # seconds that the sender gives Redis
GATHER = 0.004  # seconds from one pipeline to the next: a lone hint goes at once, a burst together
GATHER_MORE = 0.01  # seconds from one sending to the next, where more is said to follow at once
AT_ONCE = 16 * 1024  # bytes; what is longer may not fit into the socket, and is the sender's
UNHEARD = 5000  # milliseconds until the kernel gives up on a silent Redis (TCP_USER_TIMEOUT)
PAUSE = 1.0  # seconds without an attempt after Redis has failed to answer

_log = logging.getLogger(__name__)


class Told(Protocol):
    """An event that has been committed: a lifecycle.Moved, or the like."""

    @property
    def id(self) -> UUID: ...
    @property
    def project_id(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def attempt(self) -> int: ...
    @property
    def data(self) -> dict[str, Any]: ...


_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
_PATIENCE = {} if _USER_TIMEOUT is None else {_USER_TIMEOUT: UNHEARD}
STARTABLE = frozenset({"queued", "crashed", "interrupted"})  # events after which a bell is due
ASKED_TO_END = "cancel_requested"  # the event that a running attempt's worker waits for


class Hints:
    """A process's sender. Threads may share it; it must be made after a fork.

    `at_once`: what is told goes into the socket by itself, where that takes it without waiting,
    which spares waking the sender. Not where a signal may raise in the middle of it.
    """

    def __init__(self, broker_url: str, *, at_once: bool = False) -> None:
        self._line, self._at_once = _Line(broker_url), at_once
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_WAITING)
        self._something, self._closing = threading.Event(), threading.Event()
        self._sending = threading.Lock()  # held by whoever takes what waits, and sends it
        self._sent_at = -math.inf
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def tell(
        self, events: Iterable[Told], *, queues: Iterable[str] = (), more_follow: bool = False
    ) -> None:
        """The events go out soon; call it after the commit. Never blocks, never raises.

        The dispatcher looks at these `queues`, as with `wake`.
        Where `more_follow` within milliseconds, they wait for those. Who says so and may be wrong
        calls `rouse` after a while.
        """
        for event in events:
            self._waiting.append((EVENTS, encode(event)))
            if event.type in STARTABLE:
                self._waiting.append((WAKE, event.queue.encode()))
            elif event.type == ASKED_TO_END:
                self._waiting.append((CANCEL, f"{event.id}:{event.attempt}".encode()))
        for queue in queues:
            self._waiting.append((WAKE, queue.encode()))
        if not more_follow or time.monotonic() > self._sent_at + GATHER_MORE:
            self._go()

    def wake(self, queues: Iterable[str]) -> None:
        """The dispatcher looks at these queues soon."""
        for queue in queues:
            self._waiting.append((WAKE, queue.encode()))
        self._go()

    def tell_published(self) -> None:
        """Whoever follows the bus looks for new events soon."""
        self._waiting.append((EVENTS, PUBLISHED))
        self._go()

    def rouse(self) -> None:
        """What waits goes out, if there is any."""
        if self._waiting:
            self._rouse()

    def close(self) -> None:
        """What waits has been sent, if Redis takes it within a second."""
        self._closing.set()
        self._something.set()
        self._thread.join(2 * TIMEOUT)
        self._line.close()

    def _go(self) -> None:
        """What waits goes out, now or soon."""
        if not (self._at_once and self._send_at_once()):
            self._rouse()

    def _send_at_once(self) -> bool:
        is_early = time.monotonic() < self._sent_at + GATHER
        if is_early or not self._sending.acquire(blocking=False):
            return False
        try:
            if not self._line.is_clear():
                return False
            batch = self._take()
            messages = _messages(batch)
            if len(messages) > AT_ONCE or not self._line.put(messages):
                self._waiting.extendleft(reversed(batch))
                return False
            self._sent_at = time.monotonic()
        finally:
            self._sending.release()
        return True

    def _rouse(self) -> None:
        # While the sender gathers it is awake, and looks once more after it has cleared this.
        if not self._something.is_set():
            self._something.set()

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            self._something.wait()
            self._closing.wait(self._sent_at + GATHER - time.monotonic())
            self._something.clear()
            if not self._send() and self._closing.wait(PAUSE):
                return
            self._sent_at = time.monotonic()

    def _send(self) -> bool:
        with self._sending:
            batch = self._take()
            try:
                if batch:
                    with busy():
                        self._line.publish(_messages(batch))
            except redis.RedisError as error:
                _log.warning("%d hints are lost: %s", len(batch), error)
                return False
        return True

    def _take(self) -> "list[tuple[str, bytes]]":
        """All that waits. What wakes the dispatcher for a queue is said once."""
        return [*dict.fromkeys(self._waiting.popleft() for _ in range(len(self._waiting)))]


def _messages(batch: Sequence[tuple[str, bytes]]) -> bytes:
    """As Redis reads them: those for its listeners first, then events, several as one."""
    lines = [message for channel, message in batch if channel == EVENTS]
    said = [(channel, message) for channel, message in batch if channel != EVENTS]
    pieces = [lines[start : start + LINES] for start in range(0, len(lines), LINES)]
    said += [(EVENTS, b"\n".join(piece)) for piece in pieces]
    packed = []
    for channel, message in said:
        facts = len(channel), channel.encode(), len(message), message
        packed.append(b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % facts)
    return b"".join(packed)


class _Line:
    """A connection on which Redis only listens: the answers to publications tell nobody anything.

    What is said on one that has just broken is lost. https://valkey.io/commands/client-reply/
    """

    def __init__(self, broker_url: str) -> None:
        self._connect = partial(
            redis_connection, broker_url, within=TIMEOUT, socket_keepalive_options=_PATIENCE
        )
        self._connection: Any = None
        self._plain: int | None = None  # the socket's number, where bytes can be written to it
        self._poller = select.poll()

    def publish(self, messages: bytes) -> None:
        """They are on their way. redis.RedisError: they are not."""
        try:
            self._connected().send_packed_command([messages], check_health=False)
        except redis.RedisError:
            self.close()
            raise

    def is_clear(self) -> bool:
        """Whether it is worth a try to `put` something: nobody answers, but for the end."""
        return self._plain is not None and not self._poller.poll(0)

    def put(self, messages: bytes) -> bool:
        """They are on their way; False: nothing of them is. Never waits.

        What Redis has only half of it never gets: the next `publish` makes a new connection.
        """
        assert self._plain is not None
        try:
            written = os.write(self._plain, messages)
        except OSError:
            return False
        if written < len(messages):
            _log.warning("hints are lost: Redis takes %d of %d bytes", written, len(messages))
            self.close()
        return True

    def _connected(self) -> Any:
        if self._connection is not None and self._has_ended(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._connect()
            self._connection.connect()
            self._connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
            # Not TLS, and with a time-out, so that a write never blocks. redis-py tells it nobody.
            found = getattr(self._connection, "_sock", None)
            if type(found) is socket.socket and found.gettimeout() is not None:
                self._plain = found.fileno()
                self._poller.register(self._plain, select.POLLIN)
        return self._connection

    @staticmethod
    def _has_ended(connection: Any) -> bool:
        """Where nobody answers, there is nothing to be read but the end."""
        try:
            return bool(connection.can_read(0))
        except redis.RedisError:
            return True

    def close(self) -> None:
        """The next publication makes a new connection."""
        if self._plain is not None:
            self._poller.unregister(self._plain)
            self._plain = None
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


def encode(event: Told) -> bytes:
    """The hint: the event's JSON, with its `data` or without."""
    view = EventView(event.id, event.seq, event.type, event.at, event.attempt, event.data)
    if event.type != "log" and len(whole := view.json().encode()) <= MAX_BYTES:
        return whole
    return view.json_without_data().encode()
