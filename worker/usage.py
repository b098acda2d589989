"""What an attempt takes of its machine: by itself at its end, by its parent meanwhile.

Linux tells it in /proc (its manual: proc(5)). Elsewhere a parent learns nothing, so no memory limit
is kept there, and of an attempt whose process died nothing is known.
"""

import os
import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jobs.attempts import Usage

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in getrusage(2)'s ru_maxrss
FAMILY = 64  # processes of one attempt that are looked for; more are a mistake
_IS_LINUX = sys.platform == "linux"
_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")  # a second, in /proc's times
_RESET = b"5"  # written to clear_refs: the peak of resident memory becomes what it is now
_KIBIBYTES = re.compile(rb"^(VmRSS|RssAnon|RssShmem):\s+(\d+)", re.MULTILINE)


class Start(NamedTuple):
    """What its process had taken when the attempt began; zeros where that is not known."""

    cpu: float = 0.0  #: seconds; of a thread alone on the threads pool
    rss: int = 0  #: bytes resident
    memory: int = 0  #: bytes of these that are no file's
    peak: int = 0  #: bytes: the most that were resident so far, since the last reset
    children_peak: int = 0  #: bytes: the same of a child of its that has ended
    waited: float = 0.0  #: seconds that its thread was ready to run, and others did


class Taken(NamedTuple):
    """What a process and its descendants take now."""

    rss: int  #: bytes resident; pages that two of them share count twice
    memory: int  #: bytes of these that are no file's: RssAnon and RssShmem
    cpu: float  #: seconds so far; children that have ended included


class _Process(NamedTuple):
    """What one process takes by itself."""

    rss: int
    memory: int
    cpu: float
    stack: int  #: where it lies; the same in a copy that has not begun another program


class Meter:
    """A pool process's own: it makes one attempt at a time. To be made after the fork."""

    def __init__(self) -> None:
        self._statm = _open("/proc/self/statm", os.O_RDONLY)
        self._clear = _open("/proc/self/clear_refs", os.O_WRONLY)
        self._delays = _open("/proc/self/schedstat", os.O_RDONLY)

    def begin(self) -> Start:
        """An attempt begins; from now on peaks are its own. Takes microseconds."""
        if self._clear is not None:
            with suppress(OSError):
                os.pwrite(self._clear, _RESET, 0)
        rss = memory = 0
        if self._statm is not None:
            _, resident, of_files, *_ = os.pread(self._statm, 100, 0).split()
            rss, memory = int(resident) * _PAGE, (int(resident) - int(of_files)) * _PAGE
        own, children = _rusage()
        cpu = _cpu(own) + _cpu(children)
        return Start(cpu, rss, memory, _peak(own), _peak(children), self._waited())

    def end(self, start: Start, seen: int) -> Usage:
        """What the attempt has taken, of which its parent has `seen` that many bytes.

        A peak that cannot be told from an earlier attempt's is not known.
        """
        own, children = _rusage()
        peaks = [seen, start.rss]
        if self._clear is not None or _peak(own) > start.peak:
            peaks.append(_peak(own))
        if _peak(children) > start.children_peak:
            peaks.append(_peak(children))
        return Usage(max(peaks) or None, _cpu(own) + _cpu(children) - start.cpu)

    def waited_since(self, start: Start) -> float:
        """Seconds that its thread would have run, had the machine had a processor for it."""
        return self._waited() - start.waited

    def _waited(self) -> float:
        """Since the process began: https://docs.kernel.org/scheduler/sched-stats.html."""
        if self._delays is None:
            return 0.0
        return int(os.pread(self._delays, 100, 0).split()[1]) / 1e9


class ThreadMeter:
    """For attempts on threads, beside others: whose the memory is cannot be told."""

    def begin(self) -> Start:
        """An attempt begins on this thread."""
        return Start(cpu=time.thread_time())

    def end(self, start: Start, _seen: int) -> Usage:
        """What the attempt has taken that began on this thread."""
        return Usage(cpu_seconds=time.thread_time() - start.cpu)

    def waited_since(self, _start: Start) -> float:
        """Not known: handlers wait for each other's interpreter."""
        return 0.0


def look(pid: int) -> Taken | None:
    """What the process and its descendants take now; None when it is gone, or this is no Linux.

    Of one that was forked, and is no other program yet, what it has beyond its parent counts: it
    shares the rest. Right after a vfork that is everything.
    """
    found: dict[int, _Process] = {}
    rss = memory = 0
    for each, parent in family(pid):
        with suppress(OSError, ValueError):  # it has just ended
            own = found[each] = _look_at(each)
            origin = found.get(parent)
            is_copy = origin is not None and origin.stack == own.stack
            rss += max(own.rss - origin.rss, 0) if origin and is_copy else own.rss
            memory += max(own.memory - origin.memory, 0) if origin and is_copy else own.memory
    return Taken(rss, memory, sum(each.cpu for each in found.values())) if found else None


def family(pid: int) -> list[tuple[int, int]]:
    """The process and its descendants, as far as Linux tells, each with its parent."""
    members = [(pid, 0)]
    for each, _ in members:  # which grows meanwhile
        with suppress(OSError, ValueError):
            if len(members) < FAMILY:
                members += [(child, each) for child in _children(each)]
    return members


def _look_at(pid: int) -> "_Process":
    folder = Path("/proc", str(pid))
    found = {
        name: int(size) * 1024
        for name, size in _KIBIBYTES.findall((folder / "status").read_bytes())
    }
    stat = (folder / "stat").read_bytes().rpartition(b")")[2].split()  # from its third field on
    return _Process(
        found.get(b"VmRSS", 0),
        found.get(b"RssAnon", 0) + found.get(b"RssShmem", 0),
        sum(map(int, stat[11:15])) / _TICKS,  # utime, stime, cutime, cstime
        int(stat[25]),  # startstack: another one after each exec
    )


def _children(pid: int) -> list[int]:
    """Each thread has its own list of the processes that it has made."""
    lists = Path("/proc", str(pid), "task").glob("*/children")
    return [int(child) for each in lists for child in each.read_bytes().split()]


def _open(path: str, flags: int) -> int | None:
    with suppress(OSError):
        return os.open(path, flags)
    return None


def _rusage() -> tuple[resource.struct_rusage, resource.struct_rusage]:
    return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _peak(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * MAXRSS_UNIT
