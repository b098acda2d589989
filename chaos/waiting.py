"""The one way the harness waits."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(Exception):
    """What had to become true has not."""


def until(question: Callable[[], T], *, within: float, every: float = 0.05) -> T:
    """The first true answer; NotInTime after `within` seconds of none."""
    end = time.monotonic() + within
    while True:
        if answer := question():
            return answer
        if time.monotonic() > end:
            raise NotInTime(f"not within {within:g} s: {question}")
        time.sleep(every)
