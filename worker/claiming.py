"""The claim: the attempt that a doorbell names becomes this worker's, or the bell is dropped."""

import math
import time
from uuid import UUID

from jobs import lifecycle, workers
from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Claim, Next
from worker.runtime import Runtime

CLAIM_WITHIN = 5.0  # seconds that a claim waits for PostgreSQL; then the bell is rung again one day
LOST_ANSWER = "the answer to its claim was lost"
LATE_ANSWER = "the answer to its claim came too late"


def claim(
    runtime: Runtime, job_id: UUID, attempt: int, *, may_be_claimed: bool = False
) -> tuple[Claim, float]:
    """The worker holds the job as that attempt, by a claim that was sent then (monotonic, seconds).

    An earlier claim of its `may_be_claimed` already.

    LeaseLost: the bell is stale, or the claim was given back, since its answer was lost or came so
    late that the lease may be gone. DatabaseUnavailable: PostgreSQL was away for too long, and no
    claim was sent. One that was sent may have been committed, so its answer is waited for as long
    as it takes: the worker knows what it holds.
    """
    sent, sent_at = int(may_be_claimed), 0.0
    following = Next(job_id, attempt, runtime.worker_id, runtime.settings.lease)

    def send() -> None:
        nonlocal sent, sent_at
        sent, sent_at = sent + 1, time.monotonic()

    try:
        try:
            claimed = runtime.start(following, CLAIM_WITHIN, send)
        except DatabaseUnavailable:
            if not sent:
                raise
            claimed = runtime.start(following, math.inf, send)
    except LeaseLost:
        if sent > 1:
            _give_back(runtime, job_id, attempt, LOST_ANSWER)
        raise
    return in_time(runtime, claimed, sent_at), sent_at


def in_time(runtime: Runtime, claimed: Claim, sent_at: float) -> Claim:
    """The claim, if its answer came soon enough after it was sent; else it is given back.

    LeaseLost then.
    """
    if time.monotonic() - sent_at > runtime.settings.self_fence.total_seconds():
        _give_back(runtime, claimed.id, claimed.attempt, LATE_ANSWER)
        raise LeaseLost(claimed.id, claimed.attempt)
    return claimed


def _give_back(runtime: Runtime, job_id: UUID, attempt: int, reason: str) -> None:
    """If the claim was committed after all, the job may start again at once.

    Another process of this worker may have made it, by a twin of the bell; then it is that one's.
    """
    others = [each for each in runtime.board.running() if each.key == (job_id, attempt)]
    if any(each.is_claimed or each.pid != runtime.pid for each in others):
        return
    remains = runtime.ask(
        lambda c: workers.find_remains(c, runtime.worker_id, job_id, attempt), math.inf
    )
    if remains is None:
        runtime.ask(lambda c: workers.mark_lost(c, runtime.worker_id, job_id, attempt), math.inf)
    else:
        runtime.move(
            lambda c: lifecycle.interrupt(c, job_id, attempt=attempt, reason=reason), math.inf
        )
