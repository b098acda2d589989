"""What really happened: one line in a file for each start and end of a handler, in one write.

The file is the other side of every verdict, so nothing of the platform writes or reads it. Times
are of the monotonic clock, which all processes of a machine share, whatever their wall clocks say.
"""

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

VARIABLE = "LADING_CHAOS_EFFECTS"  # environment: the file, for the kinds
START, END, STEP, CLOCK = "start", "end", "step", "clock"


class Effect(NamedTuple):
    """One line."""

    word: str
    job_id: str
    attempt: int
    pid: int
    at: float  #: seconds of the monotonic clock
    name: str = ""  #: of a step, or what the time of day was


def note(word: str, job_id: UUID, attempt: int, name: str = "") -> None:
    """The line stands in the file, whatever happens to this process next.

    POSIX: a write with O_APPEND goes to the end of the file, and ours are too short to be torn.
    """
    line = f"{word} {job_id} {attempt} {os.getpid()} {time.monotonic():.6f} {name}\n"
    handle = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


class Effects:
    """The file as its reader sees it; `read` takes in what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._lines: list[Effect] = []

    def read(self) -> list[Effect]:
        """All lines so far, in the order they were written."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                whole, separator, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(separator)
            self._lines += [_parse(line) for line in whole.decode().splitlines()]
        return self._lines

    def by_job(self) -> Mapping[str, list[Effect]]:
        """The same, by job."""
        found: dict[str, list[Effect]] = defaultdict(list)
        for effect in self.read():
            found[effect.job_id].append(effect)
        return found

    def running(self) -> list[Effect]:
        """The starts that no end has followed, of processes dead or alive."""
        standing: dict[tuple[str, int], Effect] = {}
        for effect in self.read():
            if effect.word == START:
                standing[effect.job_id, effect.attempt] = effect
            elif effect.word == END:
                standing.pop((effect.job_id, effect.attempt), None)
        return [*standing.values()]


def _parse(line: str) -> Effect:
    word, job_id, attempt, pid, at, name = line.split(" ", 5)
    return Effect(word, job_id, int(attempt), int(pid), float(at), name)
