"""What a handler has said and the database does not know yet: bounded, and never in its way."""

import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_jsonable_python

from jobs import documents
from jobs.logs import LINES_PER_ATTEMPT, LINES_PER_EVENT
from worker.link import Link

MAX_MESSAGE = 2_000  # characters of a log line or a progress message; a page of text
MAX_FIELDS_BYTES = 4_096  # of a log line's fields as JSON; more is data and belongs into a file
CUT = "…"


class Notes:
    """One attempt's newest progress and its unsent log lines; the oldest lines give way.

    Handlers write them under a lock that is held for microseconds. Whoever sends them holds
    `sending` meanwhile, so that the report waits for what is on its way.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.sending = threading.Lock()
        self.sent = deque[tuple[int, int]]()  #: log events, (seq, lines), that still have theirs
        self.batch: list[dict[str, Any]] = []  #: on its way; stays until it has arrived
        self.dropped = 0  #: lines that gave way before they were sent
        self._lock = threading.Lock()
        self._lines = deque[dict[str, Any]]()
        self._progress: tuple[float, str | None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._lines and not self.batch and self._progress is None

    def show(self, fraction: float, message: str | None) -> None:
        """This is the newest progress."""
        bounded = min(max(fraction, 0.0), 1.0) if fraction == fraction else 0.0  # noqa: PLR0124
        self._progress = bounded, None if message is None else _cut(message)

    def add(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """One more line."""
        line = {
            "at": datetime.now(UTC).isoformat(),
            "level": level,
            "message": _cut(message),
            "fields": _storable(fields),
        }
        with self._lock:
            self._lines.append(line)
            if len(self._lines) > LINES_PER_ATTEMPT:
                self._lines.popleft()
                self.dropped += 1

    def next_batch(self) -> list[dict[str, Any]]:
        """The oldest lines that have not arrived, at most as many as an event holds."""
        with self._lock:
            while self._lines and len(self.batch) < LINES_PER_EVENT:
                self.batch.append(self._lines.popleft())
        return self.batch

    def take_progress(self) -> tuple[float, str | None] | None:
        """The newest progress, once."""
        progress, self._progress = self._progress, None
        return progress

    def give_back(self, progress: tuple[float, str | None]) -> None:
        """It could not be sent; a newer one counts more."""
        if self._progress is None:
            self._progress = progress

    def arrived(self, seq: int) -> list[tuple[int, int]]:
        """The batch is event `seq`. Answers which older log events have to give way for it."""
        self.sent.append((seq, len(self.batch)))
        self.batch = []
        surplus = sum(count for _, count in self.sent) - LINES_PER_ATTEMPT
        gone = []
        while surplus > 0:
            gone.append(self.sent.popleft())
            surplus -= gone[-1][1]
        return gone

    def clear(self) -> None:
        """Nothing of it is wanted any more."""
        with self._lock:
            self._lines.clear()
        self.batch = []
        self._progress = None


def _cut(text: str) -> str:
    text = documents.storable_text(str(text))
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + CUT


def _storable(fields: Mapping[str, Any]) -> Any:
    """A copy of the fields that can be stored; what is no JSON value becomes text."""
    if not fields:
        return {}
    try:
        copy = documents.storable(to_jsonable_python(dict(fields), fallback=str))
        if len(documents.encode(copy)) <= MAX_FIELDS_BYTES:
            return copy
    except ValueError:  # it holds itself, or cannot be serialized
        copy = fields
    return {"cut": repr(copy)[:MAX_MESSAGE]}
