"""A job's events from the hint to the transport, while nothing has to wait."""

from collections.abc import Sequence

from api.recorded import Recorded
from api.ws.session import Session


class Shortcut:
    """Of one subscription: an api.follower.Way. For the event loop's thread alone."""

    __slots__ = ("_before", "_session", "_start", "_wire")

    def __init__(self, session: Session, start: str) -> None:
        self._session, self._wire = session, session.wire
        self._start, self._before = start, start.encode()

    def send(self, events: Sequence[Recorded]) -> int:
        """Of api.follower.Way."""
        return self._session.send_at_once(self._start, events)

    def send_one(self, event: bytes) -> bool:
        """Of api.follower.Way."""
        session = self._session
        if session.hindrances or session.slow_until:
            return False
        return self._wire.write_text(self._before + event + b"}")
