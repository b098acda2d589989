"""`python -m chaos.clock …`: Celery on a machine whose clock is an hour ahead.

Every way in which Python code asks for the time of day is shifted before anything else is
imported, and forked children inherit it. The monotonic clock stays: it is nobody's time of day.
"""

import datetime as dt
import runpy
import time
from typing import Self

AHEAD = 3600.0  # seconds

_time, _time_ns = time.time, time.time_ns


class _Ahead(dt.datetime):
    """The class that everybody gets for `datetime.datetime`."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


def main() -> None:
    """Celery's command line, an hour from now."""
    time.time = lambda: _time() + AHEAD
    time.time_ns = lambda: _time_ns() + int(AHEAD * 1e9)
    dt.datetime = _Ahead  # type: ignore[misc]
    runpy.run_module("celery", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
