"""The claim: the attempt that a doorbell names becomes this worker's, or the bell is dropped."""

from uuid import UUID

from sqlalchemy import Connection

from jobs import lifecycle, workers
from jobs.errors import LeaseLost
from jobs.lifecycle import Claim
from worker.runtime import Runtime

CLAIM_WITHIN = 5.0  # seconds that a claim waits for PostgreSQL; then the bell is rung again one day


def claim(runtime: Runtime, job_id: UUID, attempt: int) -> Claim:
    """The worker holds the job as that attempt.

    LeaseLost: the bell is stale. DatabaseUnavailable: PostgreSQL was away for too long; if the
    claim was committed nevertheless, its lease runs out.
    """
    sent = 0

    def start(connection: Connection) -> Claim:
        nonlocal sent
        sent += 1
        return lifecycle.start(
            connection,
            job_id,
            attempt=attempt,
            worker=runtime.worker_id,
            lease=runtime.settings.lease,
        )

    try:
        return runtime.move(start, CLAIM_WITHIN)
    except LeaseLost:
        if sent > 1:
            _give_back(runtime, job_id, attempt)
        raise


def _give_back(runtime: Runtime, job_id: UUID, attempt: int) -> None:
    """If an earlier try was committed, and its answer lost, the job may start again at once."""
    remains = runtime.ask(lambda c: workers.find_remains(c, runtime.worker_id, job_id, attempt))
    if remains is not None:
        reason = "the answer to its claim was lost"
        runtime.move(lambda c: lifecycle.interrupt(c, job_id, attempt=attempt, reason=reason))
