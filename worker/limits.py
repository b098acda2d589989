"""The soft time limit of a synchronous handler in a pool process."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lading.outcomes import JobTimeout


def can_alarm() -> bool:
    """Whether this is where Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def alarm(seconds: float | None, told: Callable[[], object]) -> Iterator[None]:
    """Inside, `told` is called and JobTimeout is raised after so many seconds; main thread only.

    The timer is armed around the handler alone, so it never strikes a claim or a report.
    """
    if seconds is None:
        yield
        return

    def strike(_signal: int, _frame: FrameType | None) -> None:
        told()
        raise JobTimeout

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
