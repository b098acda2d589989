"""A service's life: a thread that takes its turns, outlives an absent server, and ends when asked.

What a service does not expect ends the thread and with it the process, whose supervisor starts it
anew: a dispatcher that lives without one of its services would look healthy.
"""

import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs.database import is_unavailable
from jobs.errors import BrokerUnavailable

ENDED = signal.SIGUSR1  # what a thread that ends unasked sends to its own process
FIRST_PAUSE = 0.2  # seconds after a failure, doubled up to …
LONGEST_PAUSE = 2.0  # … so that work goes on within so many seconds after a server is back
# Seconds of a rest that a call ends, in case that the lookout is stuck: one that gets no answer is
# refused by its time-outs, and calls everybody.
LONGEST = 30.0

_log = structlog.get_logger(__name__)


class Rest(NamedTuple):
    """How long a service waits before its next turn: a nudge ends it, but not before `least`.

    Who has nothing to do until the lookout sees something rests for LONGEST instead of `most`,
    where there is a lookout.
    """

    most: float  #: seconds
    least: float = 0.0  #: seconds
    heeds_after: float | None = None  #: seconds; from then on a call ends it. None: none does


class Service(Protocol):
    """Something that is done again and again."""

    def turn(self, connection: Connection) -> Rest:
        """Does what there is to do. It may raise what an absent database or broker raises."""

    def end(self, connection: Connection) -> None:
        """Follows the last turn, if the database answers."""


class Loop:
    """Runs a service in a thread, on a connection that it keeps."""

    def __init__(
        self, name: str, service: Service, engine: Engine, *, is_watched: bool = False
    ) -> None:
        self.name = name
        self._is_watched = is_watched
        self._heeds_from = math.inf  # by the monotonic clock
        self._service = service
        self._engine = engine
        self._nudged, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = spawn(self.name, self._keep, self._stopping)

    def nudge(self) -> None:
        """There is something to do. Never blocks."""
        self._nudged.set()

    def call(self) -> None:
        """The lookout has seen something to do, which whoever is at it knows. Never blocks."""
        if time.monotonic() >= self._heeds_from:
            self._nudged.set()

    def stop(self) -> None:
        """The turn that it is at is its last one."""
        self._stopping.set()
        self._nudged.set()

    def join(self, seconds: float) -> None:
        """It has ended, or so many seconds are over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                with self._engine.connect() as connection:
                    while not self._stopping.is_set():
                        self._rest(self._turn(connection))
                        pause = FIRST_PAUSE
                    self._service.end(connection)
            except (DBAPIError, PoolTimeout, BrokerUnavailable) as error:
                if not may_pass(error):
                    raise
                _log.warning(
                    "service waits", service=self.name, seconds=pause, reason=_first_line(error)
                )
                self._stopping.wait(pause * random.uniform(0.8, 1.2))
                pause = min(2 * pause, LONGEST_PAUSE)

    def _turn(self, connection: Connection) -> Rest:
        self._nudged.clear()  # before the look, so that what comes during it is not missed
        return self._service.turn(connection)

    def _rest(self, rest: Rest) -> None:
        most = rest.most
        if self._is_watched and rest.heeds_after is not None:
            self._heeds_from = time.monotonic() + rest.heeds_after
            most = LONGEST
        if not self._stopping.wait(rest.least):
            self._nudged.wait(most - rest.least)
        self._heeds_from = math.inf


def spawn(name: str, keep: Callable[[], None], stopping: threading.Event) -> threading.Thread:
    """A thread at work. If it ends before it is `stopping`, the process gets the signal ENDED."""

    def run() -> None:
        try:
            keep()
        finally:
            if not stopping.is_set():
                os.kill(os.getpid(), ENDED)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def may_pass(error: Exception) -> bool:
    """Whether the same may succeed later: a server is away, slow, or a lock was not had."""
    if isinstance(error, DBAPIError):
        return isinstance(error, OperationalError | InterfaceError) or is_unavailable(error)
    return True


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
