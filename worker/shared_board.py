"""The board of a pool of processes: a file in memory that they share with their parent.

So the parent knows the truth about a child even when Celery's event loop hangs on a dead broker,
and after the child's death: what it was at, what it had claimed and not begun, and what it had
brought to an end and not reported.
"""

import json
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from billiard.process import current_process

from jobs import documents
from jobs.attempts import Usage
from jobs.lifecycle import Success
from worker.board import NOTHING, Board, Running, Said
from worker.handfuls import MOST

SIDES = 2 * MOST  # places of a process: a handful that is being reported, and the next one
RECORD_BYTES = 96  # of the first two columns: what runs, and what is said to it
KEPT_BYTES = 512  # of the third: a success that waits to be reported
READS_WITHIN = 5.0  # seconds that a dead process's last words are kept from its successor
VARIABLE = "LADING_WORKER_BOARD"  # the board's file, for children that are not made by fork
_RUNNING = struct.Struct("<i16sidd??qdqq")  # Running, as it lies in a place
_SAID = struct.Struct("<16si??q")  # an attempt and what is said to it
_KEPT = struct.Struct(f"<16siH{KEPT_BYTES - 32}s")  # an attempt, and its result and usage as JSON
_CHECKSUM = struct.Struct("<I")  # follows them
_TRIES = 10  # readings of a place that is being written; one takes about a microsecond
_TAKEN = b"\1"  # begins a place that is taken
_LAST = -1  # the board's last byte: whether all slots are taken


class SharedBoard(Board):
    """Three columns, with SIDES places for each index in the pool.

    Only a child writes its places. A dead one leaves its last words until the parent clears them,
    which its successor awaits. Only the parent writes what is said to it. Nobody locks: a checksum
    tells what is half written. One byte more is the parent's: whether all slots are taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sides: dict[tuple[UUID, int], int] = {}  # what this process wrote
        self._free = [*reversed(range(SIDES))]
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._places = len(self._memory) // (2 * RECORD_BYTES + KEPT_BYTES)
        self._said_from = self._places * RECORD_BYTES
        self._kept_from = 2 * self._said_from

    @classmethod
    def create(cls, processes: int, *, is_forked: bool) -> "SharedBoard":
        """A new, empty board for as many. Children that are not forked find it by a variable."""
        memory = Path("/dev/shm")  # noqa: S108 - a folder of Linux; the file's name is a random one
        folder = memory if os.access(memory, os.W_OK) else None
        handle, path = tempfile.mkstemp(prefix="lading-worker-", dir=folder)
        os.truncate(handle, processes * SIDES * (2 * RECORD_BYTES + KEPT_BYTES) + 1)
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
        side = self._sides.get(running.key)
        if side is None:
            side = self._sides[running.key] = self._free.pop()
        body = _RUNNING.pack(running.pid, running.job_id.bytes, *running[2:])
        self._write(self._place(side) * RECORD_BYTES, RECORD_BYTES, body)

    def erase(self, running: Running) -> None:
        side = self._sides.pop(running.key, None)
        if side is not None:
            self._write(self._place(side) * RECORD_BYTES, RECORD_BYTES, b"")
            self._free.append(side)

    def running(self) -> list[Running]:
        return [*self._taken()]

    def say(self, running: Running, said: Said) -> None:
        if (place := self._find(running)) is not None:
            body = _SAID.pack(running.job_id.bytes, running.attempt, *said)
            self._write(self._said_from + place * RECORD_BYTES, RECORD_BYTES, body)

    def heard(self, job_id: UUID, attempt: int) -> Said:
        side = self._sides.get((job_id, attempt))
        if side is None:
            return NOTHING
        found = self._read(self._said_from + self._place(side) * RECORD_BYTES, _SAID)
        if found is None or found[:2] != (job_id.bytes, attempt):
            return NOTHING
        return Said(*found[2:])

    def keep(self, success: Success) -> bool:
        job_id, attempt, result, usage = success
        facts = [result, usage.max_rss_bytes, usage.cpu_seconds, usage.run_seconds]
        text = documents.encode(facts).encode()
        if len(text) > KEPT_BYTES - 32:
            return False
        body = _KEPT.pack(job_id.bytes, attempt, len(text), text)
        place = self._place(self._sides[job_id, attempt])
        self._write(self._kept_from + place * KEPT_BYTES, KEPT_BYTES, body)
        return True

    def kept(self, running: Running) -> Success | None:
        if (place := self._find(running)) is None:
            return None
        found = self._read(self._kept_from + place * KEPT_BYTES, _KEPT)
        if found is None or found[:2] != (running.job_id.bytes, running.attempt):
            return None
        result, *usage = json.loads(found[3][: found[2]])
        return Success(running.job_id, running.attempt, result, Usage(*usage))

    def names(self, job_id: UUID, attempt: int) -> bool:
        stands = self._memory.find(job_id.bytes, 0, self._said_from) >= 0
        return stands and super().names(job_id, attempt)

    def say_all_taken(self, *, is_so: bool) -> None:
        if self.all_taken != is_so:
            self._memory[_LAST] = int(is_so)

    @property
    def all_taken(self) -> bool:
        return bool(self._memory[_LAST])

    def clear(self, running: Running) -> None:
        if (place := self._find(running)) is not None:
            self._write(place * RECORD_BYTES, RECORD_BYTES, b"")

    def succeed(self) -> None:
        end = time.monotonic() + READS_WITHIN
        first = self._place(0)
        own = slice(first * RECORD_BYTES, (first + SIDES) * RECORD_BYTES, RECORD_BYTES)
        while any(self._memory[own]) and time.monotonic() < end:
            time.sleep(0.005)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    def has_not_begun(self, running: Running) -> bool:
        place = self._find(running)
        return place is not None and self._running_at(place) == running

    def _place(self, side: int) -> int:
        process: Any = current_process()
        place = int(process.index) * SIDES + side
        if place >= self._places:
            raise IndexError(f"a board for {self._places // SIDES} processes has no more room")
        return place

    def _find(self, running: Running) -> int | None:
        """Where that attempt stands for that process."""
        at = self._memory.find(running.job_id.bytes, 0, self._said_from)
        while at >= 0:
            place = at // RECORD_BYTES
            found = self._running_at(place)
            if found is not None and found.is_same(running):
                return place
            at = self._memory.find(running.job_id.bytes, at + 1, self._said_from)
        return None

    def _running_at(self, place: int) -> Running | None:
        found = self._read(place * RECORD_BYTES, _RUNNING)
        if found is None:
            return None
        pid, job_id, *rest = found
        return Running(pid, UUID(bytes=job_id), *rest)

    def _taken(self) -> Iterator[Running]:
        marks = self._memory[: self._said_from : RECORD_BYTES]
        place = marks.find(_TAKEN)
        while place >= 0:
            if (running := self._running_at(place)) is not None:
                yield running
            place = marks.find(_TAKEN, place + 1)

    def _write(self, start: int, size: int, body: bytes) -> None:
        record = _TAKEN + body + _CHECKSUM.pack(zlib.crc32(body)) if body else b""
        self._memory[start : start + size] = record.ljust(size, b"\0")

    def _read(self, start: int, shape: struct.Struct) -> tuple[Any, ...] | None:
        end = start + 1 + shape.size + _CHECKSUM.size
        for _ in range(_TRIES):
            if not self._memory[start]:
                return None
            record = self._memory[start + 1 : end]
            body = record[: shape.size]
            if _CHECKSUM.unpack_from(record, shape.size)[0] == zlib.crc32(body):
                return shape.unpack(body)
        return None
