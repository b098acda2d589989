"""The board: what a worker runs right now, said by whoever runs it.

A pool process writes its own places in memory that it shares with its parent, so the parent knows
the truth about a child even when Celery's event loop hangs on a dead broker, and after the child's
death. An attempt stands there from before its claim until after its report; a process has two
places, for it may report one attempt and claim the next at once. In a second column the parent says
to each attempt what has become known of it, so that children need not ask PostgreSQL.
"""

import math
import mmap
import os
import struct
import tempfile
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from billiard.process import current_process

SIDES = 2  # places of a process: the attempt that it makes, and the next one
PLACES = 1024  # of 512 pool processes; a worker with more than a few dozen is a mistake
RECORD_BYTES = 96  # of either column
_RUNNING = struct.Struct("<i16sidd??qdqq")  # Running, as it lies in a place
_SAID = struct.Struct("<16si?q")  # an attempt and what is said to it
_CHECKSUM = struct.Struct("<I")  # follows them
_TRIES = 10  # readings of a place that is being written; one takes less than a microsecond
READS_WITHIN = 5.0  # seconds that a dead process's last words are kept from its successor
VARIABLE = "LADING_WORKER_BOARD"  # the board's file, for children that are not made by fork


class Running(NamedTuple):
    """One attempt in its process."""

    pid: int
    job_id: UUID
    attempt: int
    since: float  #: by the monotonic clock, which is the machine's
    limit: float  #: seconds it may take; infinite where there is no limit
    is_claimed: bool = False  #: else the claim may or may not have been committed
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
    peak_rss: int = 0  #: bytes that its process and those it has made took at most, if seen


class Board(ABC):
    """Each thread or process that makes attempts has two places on it, and makes one at a time."""

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

    def shows(self, running: Running) -> bool:
        """Whether that attempt still stands there for that process."""
        return any(other.is_same(running) for other in self.running())

    def names(self, job_id: UUID, attempt: int) -> bool:
        """Whether anybody here runs that attempt."""
        return any(running.key == (job_id, attempt) for running in self.running())

    @abstractmethod
    def clear(self, dead: Running) -> None:
        """The place of a dead process is free for its successor. For the parent."""

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
        return self._said.get((job_id, attempt), _NOTHING)

    def clear(self, dead: Running) -> None:
        for place, other in self._places.copy().items():
            if other.is_same(dead):
                self._places.pop(place, None)

    def close(self) -> None:
        self._places.clear()


class SharedBoard(Board):
    """For pools of processes: a file in memory, with two places for each index in the pool.

    Only a child writes its places. A dead one leaves its last words until the parent clears them,
    which its successor awaits. Only the parent writes what is said to it. Nobody locks: a checksum
    tells what is half written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sides: list[tuple[UUID, int] | None] = [None] * SIDES  # what this process wrote
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _BYTES)

    @classmethod
    def create(cls, *, is_forked: bool) -> "SharedBoard":
        """A new, empty board. Children that are not forked find its file by the environment."""
        memory = Path("/dev/shm")  # noqa: S108 - a folder of Linux; the file's name is a random one
        folder = memory if os.access(memory, os.W_OK) else None
        handle, path = tempfile.mkstemp(prefix="lading-worker-", dir=folder)
        os.truncate(handle, _BYTES)
        os.close(handle)
        os.environ[VARIABLE] = path
        board = cls(Path(path))
        if is_forked:
            board.close()  # the memory is theirs already; a killed worker leaves no file behind
        return board

    @classmethod
    def inherited(cls) -> "SharedBoard":
        """The parent's board."""
        return cls(Path(os.environ[VARIABLE]))

    def write(self, running: Running) -> None:
        side = self._side(running.key)
        if side is None:
            side = self._sides.index(None)
            self._sides[side] = running.key
        self._write(self._start(side), _pack(running))

    def erase(self, running: Running) -> None:
        side = self._side(running.key)
        if side is not None:
            self._write(self._start(side), b"")
            self._sides[side] = None

    def running(self) -> list[Running]:
        return [running for _, running in self._taken()]

    def say(self, running: Running, said: Said) -> None:
        for index, other in self._taken():
            if other.is_same(running):
                body = _SAID.pack(running.job_id.bytes, running.attempt, *said)
                self._write(_SAID_FROM + index * RECORD_BYTES, body)

    def heard(self, job_id: UUID, attempt: int) -> Said:
        side = self._side((job_id, attempt))
        found = None if side is None else self._read(_SAID_FROM + self._start(side), _SAID)
        if found is None or found[:2] != (job_id.bytes, attempt):
            return _NOTHING
        return Said(*found[2:])

    def names(self, job_id: UUID, attempt: int) -> bool:
        stands = self._memory.find(job_id.bytes, 0, _SAID_FROM) >= 0
        return stands and super().names(job_id, attempt)

    def clear(self, dead: Running) -> None:
        for index, other in self._taken():
            if other.is_same(dead):
                self._write(index * RECORD_BYTES, b"")

    def succeed(self) -> None:
        end = time.monotonic() + READS_WITHIN
        own = slice(self._start(0), self._start(SIDES), RECORD_BYTES)
        while any(self._memory[own]) and time.monotonic() < end:
            time.sleep(0.005)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    def _side(self, key: tuple[UUID, int]) -> int | None:
        return self._sides.index(key) if key in self._sides else None

    @staticmethod
    def _start(side: int) -> int:
        process: Any = current_process()
        return int(process.index * SIDES + side) * RECORD_BYTES

    def _taken(self) -> Iterator[tuple[int, Running]]:
        marks = self._memory[:_SAID_FROM:RECORD_BYTES]
        index = marks.find(_TAKEN)
        while index >= 0:
            found = self._read(index * RECORD_BYTES, _RUNNING)
            if found is not None:
                pid, job_id, *rest = found
                yield index, Running(pid, UUID(bytes=job_id), *rest)
            index = marks.find(_TAKEN, index + 1)

    def _write(self, start: int, body: bytes) -> None:
        record = _TAKEN + body + _CHECKSUM.pack(zlib.crc32(body)) if body else b""
        self._memory[start : start + RECORD_BYTES] = record.ljust(RECORD_BYTES, b"\0")

    def _read(self, start: int, shape: struct.Struct) -> tuple[Any, ...] | None:
        for _ in range(_TRIES):
            if not self._memory[start]:
                return None
            record = self._memory[start + 1 : start + RECORD_BYTES]
            body = record[: shape.size]
            if _CHECKSUM.unpack_from(record, shape.size)[0] == zlib.crc32(body):
                return shape.unpack(body)
        return None


_NOTHING = Said()
_TAKEN = b"\1"  # begins a place that is taken
_SAID_FROM = PLACES * RECORD_BYTES
_BYTES = 2 * _SAID_FROM


def _pack(running: Running) -> bytes:
    return _RUNNING.pack(running.pid, running.job_id.bytes, *running[2:])
