"""The newest events of one watched job, put in order out of hints and the log.

Hints are lost, doubled and overtake each other; what is handed to readers has no gap all the same.
A hint that comes before its turn waits, and `is_behind` says that the log has to be read. No clock
and no I/O here: api/hub.py brings both.
"""

from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

from api.recorded import Hint, Page, Recorded, as_recorded, type_of
from jobs.events import ENDINGS, key_of

KEPT_EVENTS = 256  # a reader that is further behind reads the log by itself
KEPT_CHARACTERS = 1024 * 1024  # of JSON: log lines may be long
MAX_EARLY = 256  # hints; what is not kept comes from the log
_ENDINGS = frozenset(each.encode() for each in ENDINGS)


class Waits(Protocol):
    """Who waits for a feed's events: api.follower.Waiter."""

    def wake(self) -> None:
        """It looks again."""

    def accept(self, seq: int, event: bytes) -> bool:
        """Whether it has the newest event now, and need not be woken for it."""
        ...


class Feed:
    """One job's newest events. Nothing is known of it until the log was read (`learn`)."""

    __slots__ = (
        *("heard", "is_gone", "job_id", "key", "newest", "waiting"),
        *("_characters", "_early", "_ended", "_kept"),
    )

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.key = key_of(job_id)
        self.newest: int | None = None  #: everything up to this `seq` is known
        self.is_gone = False  #: the job was deleted
        self.waiting: set[Waits] = set()
        self.heard = 0  #: the highest `seq` that anybody has spoken of
        self._kept: list[Recorded] = []
        self._characters = 0
        self._early: dict[int, Recorded] = {}
        self._ended = False

    @property
    def is_behind(self) -> bool:
        """There is something newer, which only the log has."""
        return self.newest is not None and self.heard > self.newest

    @property
    def is_over(self) -> bool:
        """The newest event has ended the job, and nobody has spoken of a later one."""
        return self._ended and not self.is_behind

    def after(self, seq: int) -> list[Recorded] | None:
        """The known events after that one; None: only the log can tell."""
        if self.newest is None:
            return None
        if seq >= self.newest:
            return []
        if not self._kept or self._kept[0].seq > seq + 1:
            return None
        return self._kept[seq + 1 - self._kept[0].seq :]

    def pass_on(self, message: bytes) -> bool:
        """The hint was the next event, and its readers have it or are woken; False: `hear` it.

        What all of them have is not kept. Who comes later has the log.
        """
        newest = self.newest
        if newest is None or self.heard > newest:
            return False
        seq = newest + 1
        type_ = type_of(message, seq)
        if type_ is None:
            return False
        self.heard = self.newest = seq
        self._ended = type_ in _ENDINGS
        late: list[Waits] | None = None
        for waiter in self.waiting:
            if not waiter.accept(seq, message):
                if late is None:
                    late = []
                late.append(waiter)
        if late is not None:
            self._append(as_recorded(seq, type_, message))
            _wake(iter(late))
        elif self._kept:
            self._kept.clear()
            self._characters = 0
        return True

    def hear(self, hint: Hint) -> bool:
        """The event is known, or (True) the log has to be read for it."""
        seq, event = hint
        newest = self.newest
        self.heard = max(self.heard, seq)
        if newest is not None and seq <= newest:
            return self.is_behind
        if event is not None and seq - 1 == newest:
            self._append(event)
            if self._early:
                self._take_early()
        elif event is not None and len(self._early) < MAX_EARLY:
            self._early[seq] = event
        self.wake()
        return self.is_behind

    def learn(self, page: Page, heard: int) -> None:
        """What the log said is known; `heard` was so far when it was asked.

        The page must be the last one, unless it begins right after our newest event.
        """
        before = (self.newest, self.is_over)
        if self.newest is None:
            self.newest = page.seq - len(page.events)
        for event in page.events:
            if event.seq > self.newest + 1:  # asked for by a reader that was ahead of the feed
                self._kept.clear()
                self._characters = 0
                self.newest = event.seq - 1
            if event.seq == self.newest + 1:
                self._append(event)
        if self.newest == page.seq:
            self._ended = page.is_final
        self._take_early()
        self._settle(page.seq, heard)
        if before != (self.newest, self.is_over):
            self.wake()

    def begin_after(self, seq: int) -> None:
        """Somebody has seen the job at `seq`; what was before is nobody's concern."""
        if self.newest is None:
            self.newest = seq
            self._take_early()

    def confirm(self, heard: int) -> None:
        """The log has nothing newer; `heard` was so far when it was asked."""
        was_over = self.is_over
        assert self.newest is not None
        self._settle(self.newest, heard)
        if self.is_over and not was_over:
            self.wake()

    def wake(self) -> None:
        """Its readers look again."""
        _wake(iter(tuple(self.waiting)))

    def _settle(self, newest: int, heard: int) -> None:
        """What was heard and is not in the log has never been; what was heard since may be."""
        self.heard = newest if self.heard == heard else max(self.heard, newest)
        if not self.is_behind:
            self._early.clear()

    def _take_early(self) -> None:
        assert self.newest is not None
        while event := self._early.pop(self.newest + 1, None):
            self._append(event)

    def _append(self, event: Recorded) -> None:
        self._kept.append(event)
        self._characters += len(event.json)
        while len(self._kept) > KEPT_EVENTS or self._characters > KEPT_CHARACTERS:
            self._characters -= len(self._kept.pop(0).json)
        self.newest = event.seq
        self._ended = event.type in ENDINGS


def _wake(waiters: Iterator[Waits]) -> None:
    """All of them look again, even where that fails for one."""
    try:
        for waiter in waiters:
            waiter.wake()
    except BaseException:
        _wake(waiters)
        raise
