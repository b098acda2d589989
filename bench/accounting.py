"""What processes have used: CPU of whole families, the dead included, and memory.

A process's own times are in its stat file; those of a child that has ended were added to its
parent's `children_*` when it was waited for. So a family has used, at any time, the sum over its
living members of both: nothing is counted twice, and nothing is forgotten when a child ends.
"""

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Self

import psutil

EVERY = 0.5  # seconds between two looks at the memory
Groups = Mapping[str, Iterable[int]]  #: the pids of the heads of each group's families


def cpu_seconds(groups: Groups) -> dict[str, float]:
    """User and system time of each group so far, as the kernel counts: to 10 ms a process."""
    return {name: sum(map(_family_cpu, pids)) for name, pids in groups.items()}


def machine_seconds() -> float:
    """What all CPUs have worked so far, for whomever."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def memory_bytes(groups: Groups) -> dict[str, int]:
    """What each group holds: each member's own pages, and once the pages that they share.

    The largest shared part of a member stands for all: PostgreSQL's buffers are counted once.
    """
    found = {}
    for name, pids in groups.items():
        own, shared = 0, 0
        for process in (each for pid in pids for each in _family(pid)):
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_info()
                common = getattr(memory, "shared", 0)  # Linux alone tells it
                own, shared = own + memory.rss - common, max(shared, common)
        found[name] = own + shared
    return found


class Peaks:
    """The most memory that each group has held while this was entered."""

    def __init__(self, groups: Groups) -> None:
        self.most: dict[str, int] = {}
        self._groups = groups
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for name, held in memory_bytes(self._groups).items():
                self.most[name] = max(held, self.most.get(name, 0))
            if self._is_over.wait(EVERY):
                return


def _family(pid: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _family_cpu(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
