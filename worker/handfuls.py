"""How many quick attempts a pool process takes at once.

They are claimed in one statement and reported in one (handover.py). Meanwhile the last of them
waits for the others, and so does the report of the first: WORTH bounds both.
"""

MOST = 20  # attempts: beyond, a round trip and a commit are a tenth of what each costs
WORTH = 0.01  # seconds of the handlers' time


class Sizes:
    """What one process has learnt of its kinds. For one thread."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # of a handler, by kind

    def of(self, kind: str) -> int:
        """So many attempts of the kind are a handful; of an unknown one, one."""
        seconds = self.seconds(kind)
        return max(1, min(MOST, int(WORTH / max(seconds, WORTH / MOST))))

    def seconds(self, kind: str) -> float:
        """What the next handler of the kind is expected to take."""
        return self._seconds.get(kind, WORTH)

    def learn(self, kind: str, seconds: float) -> None:
        """A handler took so long: who is slow is believed at once, who is quick by and by."""
        before = self._seconds.get(kind, seconds)
        self._seconds[kind] = max(seconds, (before + seconds) / 2)
