"""The one way tests wait: ask again until it is so."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(question: Callable[[], T], *, within: float = 15.0, every: float = 0.02) -> T:
    """The first true answer to `question`; AssertionError after `within` seconds of none.

    An AssertionError in `question` counts as "not yet" and stands in the failure.
    """
    end = time.monotonic() + within
    seen: AssertionError | None = None
    while True:
        try:
            if answer := question():
                return answer
        except AssertionError as error:
            seen = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {question}") from seen
        time.sleep(every)


def soon(measure: Callable[[], float], *, below: float, tries: int = 3) -> None:
    """One of so many measurements took less than `below` seconds.

    For promises of a few seconds: during the others the machine may have stood still.
    """
    took: list[float] = []
    while not took or min(took) >= below:
        assert len(took) < tries, f"never in less than {below} s: {took}"
        took.append(measure())
