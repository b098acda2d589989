"""An event as it goes out, whether a hint brought it or the log: the same bytes either way."""

import json
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from jobs.events import History
from jobs.views import EventView

_START = b'{"job_id":"'  # how every hint begins: jobs/hints.py
_ID = slice(len(_START), len(_START) + 36)


class Recorded(NamedTuple):
    """One event, encoded once for all who read it."""

    seq: int
    type: str
    json: str  #: the Event of the contract, without line breaks


class Hint(NamedTuple):
    """What a process says it has just committed."""

    seq: int
    event: Recorded | None  #: None: too large for a hint, so that it has to be read


class Page(NamedTuple):
    """A part of the log, and how far the log goes."""

    seq: int  #: of the job's newest event, among these or not
    is_final: bool  #: that event has ended the job
    events: list[Recorded]

    @property
    def is_last(self) -> bool:
        """There is nothing after it."""
        return not self.events or self.events[-1].seq >= self.seq


def page_of(history: History) -> Page:
    """The history, ready to go out."""
    return Page(history.seq, history.is_final, [*map(recorded, history.events)])


def recorded(event: EventView) -> Recorded:
    """The event, ready to go out."""
    document = {
        "job_id": str(event.job_id),
        "seq": event.seq,
        "type": event.type,
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "attempt": event.attempt,
        "data": event.data,
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return Recorded(event.seq, event.type, text)


def hinted_job(message: bytes) -> bytes:
    """The id of the job that a hint is about, found without reading the whole."""
    return message[_ID]


def read_hint(message: bytes) -> Hint | None:
    """The hint, or None when it is none that this version knows."""
    try:
        hint = json.loads(message)
        seq = int(hint["seq"])
        if "data" not in hint:
            return Hint(seq, None)
        job_id, at = UUID(hint["job_id"]), datetime.fromisoformat(hint["at"])
        event = EventView(job_id, seq, hint["type"], at, hint["attempt"], hint["data"])
    except (ValueError, KeyError, TypeError):
        return None
    return Hint(seq, recorded(event))
