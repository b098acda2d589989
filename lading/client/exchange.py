"""What the client asks of the network, as values: nothing here opens a connection.

A verb is a generator of steps. Whoever drives it performs each step, in its own way of waiting,
and sends the reply back in; so that both clients share every decision (lading/client/verbs.py).
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

from lading.client.transfers import Sink, Upload

Item = TypeVar("Item")
T = TypeVar("T")

EVENT_STREAM = "text/event-stream"


class Repeat(Enum):
    """When a request may be sent again."""

    ALWAYS = "it has the same effect however often it arrives"
    IF_REFUSED = "only where it is certain that nothing was done"


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to Lading."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None  #: a JSON document
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None  #: a file, in a form
    extra_wait: float = 0.0  #: seconds that the server may take beside its usual time
    repeat: Repeat = Repeat.ALWAYS


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """Without its parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_success(self) -> bool:
        """2xx, or 304: what the client has is right."""
        return 200 <= self.status < 300 or self.status == 304  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke, or could not be made."""

    error: Exception
    was_sent: bool  #: False: the server cannot have seen the request
    was_silent: bool = False  #: time was over before anything came
    is_hopeless: bool = False  #: a certificate that is not trusted now will not be soon


@dataclass(frozen=True, slots=True)
class Message:
    """One Server-Sent Event."""

    type: str
    data: str
    id: str = ""  #: from where on to ask again; empty: it says nothing of that


@dataclass(frozen=True, slots=True)
class Send:
    """Reply: Answer or Lost."""

    request: Request


@dataclass(frozen=True, slots=True)
class Fetch:
    """The answer's body, if it is a success, goes into the sink. Reply: Answer or Lost."""

    request: Request
    sink: Sink


@dataclass(frozen=True, slots=True)
class Listen:
    """A stream is open if the answer is 200 and an event stream. Reply: Answer or Lost."""

    request: Request


@dataclass(frozen=True, slots=True)
class Hear:
    """The open stream's next message. Reply: Message, None when it has ended well, or Lost."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is done for so many seconds. Reply: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """A function that may wait for the disk. Reply: what it returns; what it raises is raised."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Emit(Generic[Item]):
    """Whoever iterates gets this. Reply: None."""

    item: Item


Action: TypeAlias = Send | Fetch | Listen | Hear | Pause | Work
Call: TypeAlias = Generator[Action, Any, T]  #: a verb that returns T
Series: TypeAlias = Generator[Action | Emit[Item], Any, None]  #: a verb that is iterated
