"""A running handler's link to its worker: whether, and why, it has to stop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum

from lading.context import Attempt
from lading.outcomes import JobCancelled, JobTimeout

SOFT_SHARE = 0.1  # of the limit, at most …
SOFT_MARGIN = timedelta(seconds=5)  # … and this long before it, a handler is told to come to an end


class Stop(Enum):
    """Why an attempt is to end."""

    CANCELLED = "a cancel was asked for"
    LOST = "the job went on without this attempt"
    TIMEOUT = "its time is over"
    INTERRUPTED = "the worker stops"


class Link:
    """The first reason to stop is the one that counts. Threads may share it."""

    def __init__(self, facts: Attempt, limit: timedelta | None) -> None:
        self.facts = facts
        self.started_at = time.monotonic()
        self.limit = limit
        self.reason: Stop | None = None
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None
        self._shields = 0
        self._owes = False

    @property
    def soft_limit(self) -> float | None:
        """Seconds after which JobTimeout is raised in the handler."""
        if self.limit is None:
            return None
        return (self.limit - min(SOFT_MARGIN, self.limit * SOFT_SHARE)).total_seconds()

    def stop(self, reason: Stop) -> None:
        """The handler hears of it as soon as it can."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
                self._call()

    def insist(self) -> None:
        """A handler that can be interrupted is so once more."""
        with self._lock:
            self._call()

    def attach(self, interrupt: Callable[[], object]) -> None:
        """From now on `interrupt` is called when the handler has to stop; at once, if it has to."""
        with self._lock:
            self._interrupt = interrupt
            if self.reason is not None:
                self._call()

    def detach(self) -> None:
        """The handler is over: nothing interrupts it any more."""
        with self._lock:
            self._interrupt = None

    def strike(self) -> None:
        """The soft limit is reached: JobTimeout, here or at the end of a shielded call."""
        self.stop(Stop.TIMEOUT)
        if self._shields:
            self._owes = True
        else:
            raise JobTimeout

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Inside, the alarm does not strike: a call of ours is not left halfway."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._owes and not self._shields:
            self._owes = False
            raise JobTimeout

    def check(self) -> None:
        """Nothing, JobTimeout or JobCancelled."""
        soft = self.soft_limit
        if self.reason is None and soft is not None and self.age > soft:
            self.stop(Stop.TIMEOUT)
        if self.reason is Stop.TIMEOUT:
            raise JobTimeout
        if self.reason is not None:
            raise JobCancelled(self.reason.value)

    @property
    def age(self) -> float:
        """Seconds since the attempt's start."""
        return time.monotonic() - self.started_at

    def _call(self) -> None:
        if self._interrupt is not None:
            self._interrupt()
