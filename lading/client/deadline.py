"""A moment of the monotonic clock up to which somebody waits."""

import time


class Deadline:
    """So many seconds from now; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self, at_most: float) -> float:
        """Seconds, not more than `at_most`, never negative."""
        if self._at is None:
            return at_most
        return max(0.0, min(at_most, self._at - time.monotonic()))
