"""The soft time limit of a synchronous handler in a pool process."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from worker.link import Link


def can_alarm() -> bool:
    """Whether this is where Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def alarm(link: Link) -> Iterator[None]:
    """Inside, JobTimeout is raised at the soft limit; main thread only.

    The timer is armed around the handler alone, so it never strikes a claim or a report, and it
    waits for the end of a call of ours that the handler has made.
    """
    seconds = link.soft_limit
    if seconds is None:
        yield
        return

    def strike(_signal: int, _frame: FrameType | None) -> None:
        link.strike()

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
