"""Calls to PostgreSQL that must not be lost because it is away for a moment."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from jobs.database import is_blocked, translated
from jobs.errors import DatabaseUnavailable

T = TypeVar("T")

FIRST_PAUSE = 0.05  # seconds; a dropped connection is back at once
LONGEST_PAUSE = 1.0  # seconds; a restart takes a few of them
_TRANSIENT = ("57014", "40001", "40P01")  # statement timeout, serialization failure, deadlock


def until_answered(action: Callable[[], T], within: float) -> T:
    """The answer to `action`, which is tried again while PostgreSQL is away or blocked.

    `within` is in seconds, after which DatabaseUnavailable is raised. Everything else that `action`
    raises passes. Use it for what is guarded, so that doing it twice does no harm.
    """
    end = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        try:
            return _tried(action)
        except DatabaseUnavailable:
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause * (0.5 + random.random()))
        pause = min(pause * 2, LONGEST_PAUSE)


def _tried(action: Callable[[], T]) -> T:
    try:
        with translated():
            return action()
    except DBAPIError as error:
        if is_blocked(error) or getattr(error.orig, "sqlstate", None) in _TRANSIENT:
            raise DatabaseUnavailable from error
        raise
