"""How quickly a queue's bells are answered, seen from its marks alone."""

from collections import deque

SECOND = 1.0


class Pace:
    """Counts one queue's starts in the last second.

    A mark that has gone was answered, but for the few whose jobs were cancelled; with a second
    dispatcher at work each counts its share, which is enough, for each also rings its share.
    """

    def __init__(self) -> None:
        self._marks = 0
        self._starts: deque[tuple[float, int]] = deque()

    def see(self, now: float, rung: int) -> int:
        """The starts of the last second, given what is still marked at the monotonic time `now`."""
        self._starts.append((now, max(0, self._marks - rung)))
        self._marks = rung
        while now - self._starts[0][0] > SECOND:
            self._starts.popleft()
        return sum(count for _, count in self._starts)

    def ring(self, count: int) -> None:
        """So many have been marked since; or, if negative, taken back."""
        self._marks += count
