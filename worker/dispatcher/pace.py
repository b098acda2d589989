"""How quickly a queue's bells are answered, by its marks alone; and how soon one looks again."""

from collections import deque

SECOND = 1.0
# A burst of hints is met with few looks: 0.1 ms a bell of the last second, up to 80 ms. So a
# lone job is rung for at once, and at 500 jobs a second a look serves 25 of them.
GAP_PER_BELL = 0.0001  # seconds
LONGEST_GAP = 0.08  # seconds; less than a look of a busy dispatcher is anyway
MOST_SHARERS = 4  # one that has died is counted for a lease, and its jobs wait for the others


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


def gap(rung: int, dispatchers: int) -> float:
    """Seconds that a dispatcher leaves between two looks, after it has `rung` so much in a second.

    It is one of so many (0: of itself it does not know yet) that share the jobs, and together they
    look no more often than one would: a look finds fewer jobs then, and lists become shorter.
    """
    sharers = min(max(1, dispatchers), MOST_SHARERS)
    return sharers * min(LONGEST_GAP, GAP_PER_BELL * rung * sharers)
