"""The board: what a worker runs right now, said by whoever runs it.

An attempt stands there from before its claim until after its report. Who makes a handful has a
place for each attempt of it, and for each of the next one, which is claimed with the report of the
first. What the worker's parent has learnt of an attempt it says on the board, so that whoever makes
it need not ask PostgreSQL. See shared_board.py for pools of processes.
"""

import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

from jobs.lifecycle import Success


class Running(NamedTuple):
    """One attempt in its process."""

    pid: int
    job_id: UUID
    attempt: int
    since: float  #: by the monotonic clock, which is the machine's
    limit: float  #: seconds it may take; infinite where there is no limit
    #: Its turn has come; else its claim may or may not have been committed, and nothing has begun.
    is_claimed: bool = False
    is_reporting: bool = False  #: its handler is done; all that is left is to say so
    memory_limit: int = 0  #: bytes that it may add to its process; 0: no limit
    cpu_at_start: float = 0.0  #: seconds; this and the rest: see usage.Start
    rss_at_start: int = 0
    memory_at_start: int = 0

    @property
    def key(self) -> tuple[UUID, int]:
        """The attempt that it is."""
        return self.job_id, self.attempt

    @property
    def is_handling(self) -> bool:
        """Whether its handler may be at work."""
        return self.is_claimed and not self.is_reporting

    def is_same(self, other: "Running") -> bool:
        """Whether both are the same attempt in the same process."""
        return self.pid == other.pid and self.key == other.key


class Said(NamedTuple):
    """What the parent says to one attempt."""

    is_cancelled: bool = False  #: somebody has asked for its end
    is_withdrawn: bool = False  #: it is not to begin here, and is given back
    peak_rss: int = 0  #: bytes that its process and those it has made took at most, if seen


class Board(ABC):
    """Each thread or process that makes attempts has places on it, and makes one at a time."""

    @contextmanager
    def place(self, job_id: UUID, attempt: int) -> Iterator["Running"]:
        """Inside, the attempt stands on the board, as one that is not claimed yet.

        Where the process is told to end meanwhile, it stays there, for the parent to read.
        """
        running = Running(os.getpid(), job_id, attempt, time.monotonic(), math.inf)
        self.write(running)
        try:
            yield running
        except SystemExit:
            raise
        except BaseException:
            self.erase(running)
            raise
        self.erase(running)

    @abstractmethod
    def write(self, running: Running) -> None:
        """One of the caller's own places shows this: the attempt's, if it has one already."""

    @abstractmethod
    def erase(self, running: Running) -> None:
        """None of the caller's places shows the attempt any more."""

    @abstractmethod
    def running(self) -> list[Running]:
        """All that stands there now."""

    @abstractmethod
    def say(self, running: Running, said: Said) -> None:
        """Whoever makes the attempt hears it; nobody else does. For the parent, of one thread."""

    @abstractmethod
    def heard(self, job_id: UUID, attempt: int) -> Said:
        """What has been said to the caller's attempt."""

    def say_all_taken(self, *, is_so: bool) -> None:  # noqa: B027 - threads do not ask
        """Whether the parent has no process for another bell, and hears none. For the parent."""

    @property
    def all_taken(self) -> bool:
        """Whether the parent has said so."""
        return False

    def has_not_begun(self, running: Running) -> bool:
        """Whether that attempt stands there and waits for its turn."""
        return running in self.running()

    def shows(self, running: Running) -> bool:
        """Whether that attempt still stands there for that process."""
        return any(other.is_same(running) for other in self.running())

    def names(self, job_id: UUID, attempt: int) -> bool:
        """Whether anybody here runs that attempt."""
        return any(running.key == (job_id, attempt) for running in self.running())

    @abstractmethod
    def clear(self, running: Running) -> None:
        """That place of a process, which is dead or is not to begin it, is free. For the parent."""

    def keep(self, _success: Success) -> bool:
        """The success stands with the caller's attempt, for the parent to report if need be.

        Whether it does: else, of a process, it is to be reported before anything else is begun.
        """
        return True

    def kept(self, _running: Running) -> Success | None:
        """What was kept of that attempt. For the parent."""
        return None

    def succeed(self) -> None:  # noqa: B027 - threads have no predecessors
        """For a new process: the parent has read what its predecessor left in the place."""

    @abstractmethod
    def close(self) -> None:
        """Nothing of it is left behind."""


class ThreadBoard(Board):
    """For pools whose attempts run in threads of one process."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, tuple[UUID, int]], Running] = {}  # by thread and attempt
        self._said: dict[tuple[UUID, int], Said] = {}

    def write(self, running: Running) -> None:
        self._places[threading.get_ident(), running.key] = running

    def erase(self, running: Running) -> None:
        self._places.pop((threading.get_ident(), running.key), None)
        self._said.pop(running.key, None)

    def running(self) -> list[Running]:
        return list(self._places.copy().values())

    def say(self, running: Running, said: Said) -> None:
        self._said[running.key] = said
        if not self.shows(running):  # it has just gone, and may have missed it
            self._said.pop(running.key, None)

    def heard(self, job_id: UUID, attempt: int) -> Said:
        return self._said.get((job_id, attempt), NOTHING)

    def clear(self, running: Running) -> None:
        for place, other in self._places.copy().items():
            if other.is_same(running):
                self._places.pop(place, None)

    def close(self) -> None:
        self._places.clear()


NOTHING = Said()
