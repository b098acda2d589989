"""Verdicts: why an attempt is ended from outside, or what its process's death means for it."""

from dataclasses import dataclass

from jobs.attempts import Cause
from jobs.settings import MEBIBYTE
from worker.link import Stop


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an attempt was ended from outside; without `stop` it was not, and its process died."""

    stop: Stop | None
    detail: str
    cause: Cause = Cause.CRASHED


OVERRUN = Verdict(Stop.TIMEOUT, "it ran into its time limit")
STOPPED = Verdict(Stop.INTERRUPTED, "the worker stopped")
FENCED = Verdict(Stop.INTERRUPTED, "the worker could not reach the database")
CANCELLED = Verdict(Stop.CANCELLED, "it did not heed the cancel request")
LOST = Verdict(Stop.LOST, Stop.LOST.value)
TERMINATED = Verdict(Stop.INTERRUPTED, "its process was told to stop")
TAKEN_ALONG = Verdict(Stop.INTERRUPTED, "its process was ended for another attempt's sake")
NOT_BEGUN = Verdict(Stop.INTERRUPTED, "its process ended before it began")
HELD_UP = Verdict(Stop.INTERRUPTED, "another attempt before it took long")


def too_large(used: int, limit: int) -> Verdict:
    """Of so many bytes; it is a crash, as the system itself would have ended it."""
    detail = f"it took {used / MEBIBYTE:.0f} MiB of memory; its limit is {limit / MEBIBYTE:.0f} MiB"
    return Verdict(None, detail, Cause.MEMORY)
