"""Attempts made by this process, as a pool's thread makes them."""

from jobs.attempts import Outcome
from jobs.submissions import NewJob
from worker.execute import execute
from worker.outcomes import Ended
from worker.runtime import Runtime


def make(runtime: Runtime, job: NewJob, attempt: int = 1) -> Ended | None:
    """How that attempt ended, if it was made."""
    (turn,) = execute(runtime, [(job.id, attempt)])
    return turn.ended


def outcome_of(runtime: Runtime, job: NewJob, attempt: int = 1) -> Outcome:
    """The same, of an attempt that has to be made."""
    ended = make(runtime, job, attempt)
    assert ended is not None
    return ended.outcome
