"""What an attempt says of itself but its start and success: each names the attempt, its fence."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from jobs.attempts import UNKNOWN_USAGE, Cause, Error, Outcome, Usage
from jobs.errors import LeaseLost
from jobs.lifecycle.statements import SINGLE, Moved
from jobs.states import Move


def record_progress(
    connection: Connection, job_id: UUID, *, attempt: int, fraction: float, message: str | None
) -> Moved:
    """The job shows how far it is. LeaseLost, here and below: stop, and drop what there is."""
    facts = {"fraction": fraction, "message": message}
    return _report(connection, job_id, attempt, (Move.PROGRESS,), facts=facts)


def record_log(
    connection: Connection, job_id: UUID, *, attempt: int, lines: Sequence[dict[str, Any]]
) -> Moved:
    """The lines stand in the job's log; at most 100 a call."""
    return _report(connection, job_id, attempt, (Move.LOG,), facts={"lines": list(lines)})


def record_step(
    connection: Connection, job_id: UUID, *, attempt: int, name: str, result: Any
) -> Moved:
    """The step's JSON result is stored; IntegrityError when the step has one already."""
    binds = {"facts": {"name": name}, "name": name, "returned": result}
    return _report(connection, job_id, attempt, (Move.STEP,), **binds)


def retry_later(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    error: Error,
    delay: timedelta,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more failure is counted; the job waits for `delay`, by the database's clock.

    Here and in the other ends but `succeed`: after a cancel request the job is cancelled instead.
    """
    binds = {"delay": delay, **_failure(error, Outcome.RETRIED), **usage_binds(usage)}
    return _report(connection, job_id, attempt, (Move.RETRY_LATER, Move.CANCEL_RUNNING), **binds)


def fail(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    error: Error,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more failure is counted, and it was the last."""
    binds = {**_failure(error, Outcome.FAILED), **usage_binds(usage)}
    return _report(connection, job_id, attempt, (Move.FAIL, Move.CANCEL_RUNNING), **binds)


def cancel_running(
    connection: Connection, job_id: UUID, *, attempt: int, reason: str, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The running job has ended as cancelled; the reason of the request, if any, stands."""
    binds = {"facts": {"reason": reason}, "failure": None, "outcome": Outcome.CANCELLED}
    return _report(
        connection, job_id, attempt, (Move.CANCEL_RUNNING,), **binds, **usage_binds(usage)
    )


def crash(
    connection: Connection,
    job_id: UUID,
    *,
    attempt: int,
    detail: str,
    cause: Cause = Cause.CRASHED,
    usage: Usage = UNKNOWN_USAGE,
) -> Moved:
    """One more crash is counted; the job may start again at once, or the last one failed it."""
    error = Error(cause, "ProcessDied", detail).document()
    binds = {"failure": error, "outcome": Outcome.CRASHED, **usage_binds(usage)}
    try:
        facts = crash_facts(detail, cause)
        return _report(connection, job_id, attempt, (Move.CRASH,), facts=facts, **binds)
    except LeaseLost:
        moves = (Move.CRASH_OUT, Move.CANCEL_RUNNING)
        return _report(connection, job_id, attempt, moves, facts={"error": error}, **binds)


def interrupt(
    connection: Connection, job_id: UUID, *, attempt: int, reason: str, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    """The job may start again at once; no budget is touched."""
    binds = {"facts": {"reason": reason}, "failure": None, "outcome": Outcome.INTERRUPTED}
    moves = (Move.INTERRUPT, Move.CANCEL_RUNNING)
    return _report(connection, job_id, attempt, moves, **binds, **usage_binds(usage))


def _report(
    connection: Connection, job_id: UUID, attempt: int, moves: Sequence[Move], **binds: Any
) -> Moved:
    """The first of `moves` that its guard allows, in the attempt's name."""
    for move in moves:
        row = connection.execute(SINGLE[move], {"job": job_id, "fence": attempt, **binds}).first()
        if row is not None:
            return Moved._make(row)
    raise LeaseLost(job_id, attempt)


def _failure(error: Error, outcome: Outcome) -> dict[str, Any]:
    document = error.document()
    return {"facts": {"error": document}, "failure": document, "outcome": outcome}


def usage_binds(usage: Usage) -> dict[str, Any]:
    return {
        "max_rss_bytes": usage.max_rss_bytes,
        "cpu_seconds": usage.cpu_seconds,
        "run_seconds": usage.run_seconds,
    }


def crash_facts(detail: str, cause: Cause = Cause.CRASHED) -> dict[str, Any]:
    return {"cause": str(cause), "detail": detail}
