"""Whether so many things come that it pays to wait a moment for more, and do them together."""

PACE_OF = 0.1  # seconds in which they are counted


class Pace:
    """Of one stream of things, which is busy with more than `limit` a second. Times are seconds."""

    def __init__(self, limit: float, now: float) -> None:
        self._limit, self._since, self._come, self._is_busy = limit, now, 0, False

    def count(self, things: int) -> None:
        """They have come."""
        self._come += things

    def is_busy_at(self, now: float) -> bool:
        """By what came in the last PACE_OF, or since it was asked before that."""
        seconds = now - self._since
        if seconds >= PACE_OF:
            self._is_busy = self._come > self._limit * seconds
            self._since, self._come = now, 0
        return self._is_busy
