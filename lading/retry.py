"""When the next attempt comes, if one does. Pure: no clock, no database, chance is handed in."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from lading.durations import as_timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full jitter ("Exponential Backoff and Jitter", AWS Architecture Blog, 2015).

    `base` and `cap` are seconds or a timedelta. With the defaults the waits are at most 5, 10, 20,
    40 s …, and half of that on average.
    """

    base: float | timedelta = 5  # outlasts a dropped connection or a server's restart
    cap: float | timedelta = 3600  # the end of a long outage is noticed within the hour

    def __post_init__(self) -> None:
        as_timedelta(self.base), as_timedelta(self.cap)

    def limit(self, failures: int) -> timedelta:
        """The longest wait after that many failures (≥ 1): min(cap, base · 2^(failures-1))."""
        base, cap = as_timedelta(self.base).total_seconds(), as_timedelta(self.cap).total_seconds()
        doublings = min(failures - 1, 64)  # a thousand of them would overflow the float
        return timedelta(seconds=min(cap, base * 2.0**doublings))

    def delay(self, failures: int, max_attempts: int, random: Random) -> timedelta | None:
        """A wait of 0 … limit(failures), or None: that failure was the last one."""
        if failures >= max_attempts:
            return None
        return random.random() * self.limit(failures)
