"""The forms of a schedule, as they are stored and as they are computed with."""

from datetime import datetime, timedelta
from typing import NamedTuple

from jobs.timing import Cron, Interval, Once, Timing


class Form(NamedTuple):
    """The columns that say when: one of `cron`, `every_seconds` (with its anchor) and `at`."""

    cron: str | None = None
    timezone: str = "UTC"  #: IANA
    every_seconds: float | None = None
    anchor_at: datetime | None = None
    at: datetime | None = None


def timing_of(form: Form) -> Timing:
    """What computes its times. ValueError: it is none, or several."""
    match form:
        case Form(cron=str(cron), timezone=zone, every_seconds=None, anchor_at=None, at=None):
            return Cron(cron, zone)
        case Form(cron=None, every_seconds=float(every), anchor_at=datetime() as anchor, at=None):
            return Interval(timedelta(seconds=every), anchor)
        case Form(cron=None, every_seconds=None, anchor_at=None, at=datetime() as at):
            return Once(at)
    raise ValueError(f"no form of a schedule: {form}")
