"""The sampler: the watch's eye on what running attempts take of the machine.

So that a memory limit is kept, and the story of an attempt whose process died is known.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from jobs.attempts import UNKNOWN_USAGE, Usage
from worker import usage
from worker.board import Running

SAMPLE_EVERY = 0.5  # seconds between two looks at one attempt, which take 0.1 ms of the parent
FIRST_AFTER = 0.1  # seconds; of attempts that are quicker nobody needs to know more
Key = tuple[int, UUID, int]


@dataclass(slots=True)
class _Seen:
    """Of one attempt."""

    lowest: int  #: bytes of memory that are not its own: what there was before, and never freed
    used: int = 0  #: bytes of memory that it has added to that, when last looked at
    peak: int = 0  #: bytes resident
    cpu: float | None = None  #: seconds
    next_at: float = 0.0


class Sampler:
    """For a pool of processes, whose attempts begin with a Meter. Of one thread."""

    def __init__(self) -> None:
        self._seen: dict[Key, _Seen] = {}

    def look(self, standing: Iterable[Running], now: float) -> None:
        """What those handlers take is known that are due: each time, if there is a limit."""
        before, self._seen = self._seen, {}
        for running in standing:
            if not running.is_claimed:  # what its process had before is only known with the claim
                continue
            key = (running.pid, *running.key)
            seen = self._seen[key] = before.get(key) or _Seen(running.memory_at_start)
            is_old = now > running.since + FIRST_AFTER and now >= seen.next_at
            if not running.is_reporting and (running.memory_limit or is_old):
                seen.next_at = now + SAMPLE_EVERY
                self._sample(running, seen)

    def used(self, running: Running) -> int:
        """Bytes of memory that the attempt had added to its process when it was last looked at."""
        seen = self._seen.get((running.pid, *running.key))
        return 0 if seen is None else seen.used

    def peak(self, running: Running) -> int:
        """Bytes that were resident at most, as far as that was seen; 0 where it was not."""
        seen = self._seen.get((running.pid, *running.key))
        return 0 if seen is None else seen.peak

    def total(self, running: Running) -> Usage:
        """What the attempt had taken when it was last looked at: now, if it can still be seen."""
        if not running.is_claimed:
            return UNKNOWN_USAGE
        seen = self._seen.get((running.pid, *running.key)) or _Seen(running.memory_at_start)
        self._sample(running, seen)
        return Usage(max(seen.peak, running.rss_at_start) or None, seen.cpu)

    @staticmethod
    def _sample(running: Running, seen: _Seen) -> None:
        taken = usage.look(running.pid)
        if taken is None:
            return
        seen.cpu = max(taken.cpu - running.cpu_at_start, 0.0)
        if taken.rss:  # of a dead one's memory nothing is left
            seen.peak = max(seen.peak, taken.rss)
            seen.lowest = min(seen.lowest, taken.memory)
            seen.used = taken.memory - seen.lowest
