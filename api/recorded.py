"""An event as it goes out, whether a hint brought it or the log: the same JSON either way."""

import re
from typing import NamedTuple

from pydantic_core import from_json

from jobs.events import History
from jobs.views import EventView

_START = b'{"job_id":"'  # how every hint begins: jobs/views.py
_ID = slice(len(_START), len(_START) + 36)
# Of the data it is asked as well whether they are JSON (`read_hint`); the rest surely is.
_match = re.compile(
    rb'\{"job_id":"[0-9a-f-]{36}","seq":([1-9][0-9]{0,9}),"type":"([a-z_]{1,40})"'
    rb',"at":"[0-9:T.+Z-]{20,40}","attempt":(?:0|[1-9][0-9]{0,9})(?:,"data":(\{[^\r\n]*\}))?\}'
).fullmatch
_NO_DATA = b"{}"


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
    return Recorded(event.seq, event.type, event.json())


def hinted_job(message: bytes) -> bytes:
    """The id of the job that a hint is about, found without reading the whole."""
    return message[_ID]


def read_hint(message: bytes) -> Hint | None:
    """The hint, or None when it is none that this version knows."""
    found = _match(message)
    if found is None:
        return None
    seq, type_, data = found.groups()
    if data is None:
        return Hint(int(seq), None)
    if not _is_json(data):
        return None
    return Hint(int(seq), as_recorded(int(seq), type_, message))


def type_of(message: bytes, seq: int) -> bytes | None:
    """The type of the event that the hint brings whole; None: it does not, or has another `seq`."""
    found = _match(message)
    if found is None:
        return None
    number, type_, data = found.groups()
    is_wanted = data is not None and int(number) == seq and _is_json(data)
    return type_ if is_wanted else None


def as_recorded(seq: int, type_: bytes, message: bytes) -> Recorded:
    """The event of a hint that `type_of` has seen through."""
    return Recorded(seq, type_.decode(), message.decode())


def _is_json(data: bytes) -> bool:
    """No client gets what it cannot read. The parser also says no to what is not UTF-8."""
    if data != _NO_DATA:
        try:
            from_json(data, allow_inf_nan=False)
        except ValueError:
            return False
    return True
