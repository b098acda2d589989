"""What was done to the platform, and when: the only excuse for an effect that happened twice."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fault:
    """One fault. Times are monotonic."""

    words: str
    at: float
    pids: frozenset[int] = frozenset()  #: processes that were killed, frozen or told to end
    until: float | None = None  #: when it was over, where it lasted
    is_excuse: bool = False  #: attempts of that time may be lost whatever their process

    @property
    def over_at(self) -> float:
        """When the platform could begin to recover."""
        return self.at if self.until is None else self.until

    def end(self) -> None:
        """The fault is over now."""
        self.until = time.monotonic()


@dataclass(slots=True)
class Faults:
    """All of a scenario."""

    grace: float  #: seconds in which an excuse goes on to count: a lease, and the sweep after it
    items: list[Fault] = field(default_factory=list)

    def add(
        self, words: str, pids: frozenset[int] = frozenset(), *, is_excuse: bool = False
    ) -> Fault:
        """The fault begins now."""
        fault = Fault(words, time.monotonic(), pids, is_excuse=is_excuse)
        self.items.append(fault)
        return fault

    def excuse(self, pid: int, start: float, end: float) -> bool:
        """Whether an attempt of that process and that time may have been lost."""
        return any(
            (pid in fault.pids and start <= fault.over_at and end >= fault.at)
            or (fault.is_excuse and start <= fault.over_at + self.grace and end >= fault.at)
            for fault in self.items
        )
