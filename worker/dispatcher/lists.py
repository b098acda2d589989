"""Lists: one bell for several quick attempts, where a message for each would cost more than them.

A kind is quick when its attempts take less than QUICK on average, which is measured on some of
those that were rung. Its bells are put together as far as every slot still gets one, and further as
long as a list is done within WORTH: a job waits no longer behind others while slots have nothing to
do. So a few jobs are rung one by one, unless they are very quick, and a backlog in lists. A worker
makes the attempts of a list one after the other; whatever is left of a list that was lost is rung
again.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from jobs.broker import Bell
from jobs.durations import measure

T = TypeVar("T")

QUICK = 0.02  # seconds: ten times what a message costs
LONGEST = 0.1  # seconds of expected work: the last of a list hardly waits longer than alone
WORTH = 0.006  # seconds that a list may last where there are slots enough for shorter ones
BESIDE = 0.0003  # seconds that an attempt's claim and report take, whatever its handler does
MOST = 50  # attempts of one list; beyond, a message's share is not worth mentioning
SAMPLE = 20  # attempts of a kind that are looked at
FEWEST = 5  # of these that have begun, or nothing is known
LOOK_EVERY = 1.0  # seconds
LOOK_FOR = 30.0  # seconds: a sample of which so few have begun until then is replaced by another


class Sample(NamedTuple):
    """Jobs of a kind. Not the newest, which in a backlog have never begun."""

    since: float  #: by the monotonic clock
    jobs: list[UUID]


class Lists:
    """What one dispatcher knows of how long kinds take. Of one thread."""

    def __init__(self) -> None:
        self._rung: dict[str, Sample] = {}  #: since a kind was looked at, the first; by kind
        self._seconds: dict[str, float] = {}  #: of an attempt, by kind
        self._looked_at = -LOOK_EVERY

    @property
    def is_learning(self) -> bool:
        """Whether it wants to look again soon."""
        return bool(self._rung)

    @property
    def is_due(self) -> bool:
        """Whether it would look now."""
        return self.is_learning and time.monotonic() >= self._looked_at + LOOK_EVERY

    def learn(self, connection: Connection) -> None:
        """From time to time, what was rung lately is looked at. One statement."""
        if not self.is_due:
            return
        now = self._looked_at = time.monotonic()
        asked = [*_flat(sample.jobs for sample in self._rung.values())]
        for kind, attempts, seconds in measure(connection, asked):
            if attempts >= FEWEST:
                self._seconds[kind] = seconds
                del self._rung[kind]
        for kind, sample in [*self._rung.items()]:
            if now > sample.since + LOOK_FOR:
                del self._rung[kind]

    def put_together(self, bells: Sequence[Bell], slots: int) -> list[Bell]:
        """The same attempts in fewer bells, if their kinds are quick; each at its first place.

        `bells` are for one attempt each, of one queue that has so many `slots`.
        """
        alike: defaultdict[tuple[str, int, bool], list[Bell]] = defaultdict(list)
        for bell in bells:
            alike[bell.kind, bell.priority, bell.is_limited].append(bell)
            self._sample(bell)
        listed = [bell for some in alike.values() for bell in self._listed(some, slots)]
        if len(alike) > 1:
            places = {bell.attempts[0]: place for place, bell in enumerate(bells)}
            listed.sort(key=lambda bell: places[bell.attempts[0]])
        return listed

    def _sample(self, bell: Bell) -> None:
        sample = self._rung.setdefault(bell.kind, Sample(time.monotonic(), []))
        if len(sample.jobs) < SAMPLE:
            sample.jobs.append(bell.attempts[0][0])

    def _listed(self, bells: Sequence[Bell], slots: int) -> list[Bell]:
        fewest, most = self._bounds(bells[0].kind)
        size = min(most, max(fewest, math.ceil(len(bells) / max(slots, 1))))
        size = math.ceil(len(bells) / math.ceil(len(bells) / size))  # of as many, about the same
        if size <= 1:
            return [*bells]
        starts = range(0, len(bells), size)
        lists = [tuple(_flat(bell.attempts for bell in bells[at : at + size])) for at in starts]
        return [bells[0]._replace(attempts=attempts) for attempts in lists]

    def _bounds(self, kind: str) -> tuple[int, int]:
        """How many attempts a list may have for the bell's sake, and how many at most."""
        seconds = self._seconds.get(kind, math.inf)
        if seconds > QUICK:
            return 1, 1
        return max(1, int(WORTH / (seconds + BESIDE))), int(LONGEST / max(seconds, LONGEST / MOST))


def _flat(parts: Iterable[Iterable[T]]) -> Iterable[T]:
    return (each for part in parts for each in part)
