"""From one handful to the next: what has succeeded is reported, and what follows is claimed.

That is one statement, one round trip and one commit, of which nobody need know more: where anything
hinders it, each is done by itself, by the code that has the patience for it.
"""

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Claim, Moved, Next
from worker.claiming import claim
from worker.runtime import Runtime
from worker.turn import Turn

Answers = Mapping[tuple[UUID, int], Moved | Claim]  # by attempt

_log = structlog.get_logger(__name__)


def hand_over(runtime: Runtime, made: Sequence[Turn], following: Sequence[Turn]) -> None:
    """Each success of what was `made` is reported; what follows is claimed, or has left.

    Each has a job of its own.
    """
    pending = [turn for turn in made if turn.success is not None]
    sent_at = time.monotonic()
    answers, may_be_done = _exchange(runtime, pending, following)
    for turn in pending:
        if turn.key in answers:
            turn.leave()
        else:
            turn.report()
    for turn in following:
        found = answers.get(turn.key)
        if isinstance(found, Claim):
            turn.claimed(found, sent_at)
        else:
            _claim(runtime, turn, may_be_claimed=may_be_done)


def _exchange(
    runtime: Runtime, pending: Sequence[Turn], following: Sequence[Turn]
) -> tuple[Answers, bool]:
    """What came about at once, and whether all of it may have, though there is no answer."""
    is_sent = False

    def on_send() -> None:
        nonlocal is_sent
        is_sent = True

    if len([*pending, *following]) <= 1:  # by itself, it is done with patience
        return {}, False
    successes = [turn.success for turn in pending if turn.success is not None]
    starts = [Next(*turn.key, runtime.worker_id, runtime.settings.lease) for turn in following]
    try:
        answers = runtime.exchange(successes, starts, on_send)
    except (SQLAlchemyError, DatabaseUnavailable):
        return {}, is_sent
    found = zip([*pending, *following], answers, strict=True)
    return {turn.key: answer for turn, answer in found if answer is not None}, False


def _claim(runtime: Runtime, turn: Turn, *, may_be_claimed: bool) -> None:
    """It is claimed by itself, or has left."""
    job_id, attempt = turn.key
    try:
        claimed, sent_at = claim(runtime, job_id, attempt, may_be_claimed=may_be_claimed)
    except LeaseLost:
        _log.debug("stale doorbell", job_id=str(job_id), attempt=attempt)
        turn.leave()
    except DatabaseUnavailable:
        _log.warning("doorbell dropped: no database", job_id=str(job_id), attempt=attempt)
        turn.leave()
    else:
        turn.claimed(claimed, sent_at)
