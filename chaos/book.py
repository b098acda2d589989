"""The book: every submission, what was answered, and what is expected of it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Order:
    """One submission as a client wants it; the key makes it safe to repeat."""

    kind: str
    args: Mapping[str, Any]
    options: Mapping[str, Any]
    key: str  #: for idempotency, and what the job shall return
    state: str = "succeeded"  #: how it is expected to end
    cause: str | None = None  #: of the error, where it is expected to fail
    starts: int = 1  #: how often it runs by design
    asks_database: bool = False  #: its handler does: a lost connection is an error of its own
    event: str | None = None  #: the type of the event that shall make it; None: it is submitted

    @property
    def body(self) -> dict[str, Any]:
        """As it is submitted. The token comes back as the result."""
        if self.event is not None:  # its id is the key, and its data become the job's args
            return {"type": self.event, "data": {"token": self.key, **self.args}}
        return {"kind": self.kind, "args": {"token": self.key, **self.args}, **self.options}

    @property
    def path(self) -> str:
        """Where it is sent to."""
        return "/v1/jobs" if self.event is None else "/v1/events"


@dataclass(slots=True)
class Entry:
    """What became of an order."""

    order: Order
    ids: list[str] = field(default_factory=list)  #: of the answers, each once; more is a fault
    tries: int = 0
    sent_at: float = 0.0  #: monotonic, of the first try
    answered_at: float | None = None  #: monotonic, of the first 202
    refusal: str | None = None  #: an answer that no retry would change
    followed: list[dict[str, Any]] | None = None  #: the events that a follower saw, when it ended
    fault: str | None = None  #: what its follower saw that it must not

    @property
    def id(self) -> str:
        """Of the accepted job."""
        return self.ids[0]


class Book:
    """All entries of a scenario. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def enter(self, order: Order) -> Entry:
        """The order is known before it is sent: it may be accepted without an answer."""
        entry = Entry(order)
        with self._lock:
            self._entries.append(entry)
        return entry

    @property
    def entries(self) -> list[Entry]:
        with self._lock:
            return [*self._entries]

    @property
    def accepted(self) -> list[Entry]:
        """Those that have been answered with an id."""
        return [entry for entry in self.entries if entry.ids]

    @property
    def unknown(self) -> list[Entry]:
        """Those without any answer: accepted or not, nobody can say."""
        return [entry for entry in self.entries if not entry.ids and entry.refusal is None]
