"""The report: the rest of what the handler said, and then how its attempt ended."""

import math
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import lifecycle, workers
from jobs.attempts import Outcome, Usage
from jobs.errors import LeaseLost
from jobs.lifecycle import Claim, Moved, Success
from worker import outcomes
from worker.execution import Execution
from worker.outcomes import Ended

# A result is kept until PostgreSQL has answered: whoever may not write any more is told so then.
# An attempt that has done its work is not ended by the fence, but by the end of its worker alone.
PATIENCE = math.inf
LARGE = 64 * 1024  # bytes of a result that is written by itself; a hundred are 6 MiB

_log = structlog.get_logger(__name__)


def report(execution: Execution, ended: Ended, usage: Usage) -> Ended:
    """The attempt's end is stored, if it still held its job; else its outcome is LEASE_LOST.

    An end that PostgreSQL refuses to store is a failure for good: it would refuse it each time.
    """
    if ended.outcome is Outcome.LEASE_LOST:
        return _lose(execution)
    try:
        flush(execution)
        return _send(execution, ended, usage)
    except LeaseLost:
        return ended if _is_reported(execution, ended) else _lose(execution)


def _send(execution: Execution, ended: Ended, usage: Usage) -> Ended:
    runtime, claim = execution.runtime, execution.claim
    try:
        if ended.outcome is Outcome.SUCCEEDED:
            success = Success(claim.id, claim.attempt, ended.result, usage)
            runtime.succeed(success, PATIENCE, goes_alone=ended.size > LARGE)
        else:
            runtime.move(_move(claim, ended, usage), PATIENCE)
    except SQLAlchemyError as error:
        _log.exception("outcome cannot be stored", job_id=str(claim.id), attempt=claim.attempt)
        ended = outcomes.unstorable(ended, error)
        runtime.move(_move(claim, ended, usage), PATIENCE)
    return ended


def _lose(execution: Execution) -> Ended:
    """The job went on without this attempt, which changes nothing any more but its own row."""
    runtime, claim = execution.runtime, execution.claim
    _log.warning("job lost by its attempt", job_id=str(claim.id), attempt=claim.attempt)
    runtime.ask(
        lambda c: workers.mark_lost(c, runtime.worker_id, claim.id, claim.attempt), PATIENCE
    )
    return Ended(Outcome.LEASE_LOST)


def flush(execution: Execution) -> None:
    """What the handler said before its end is stored. LeaseLost."""
    runtime, notes = execution.runtime, execution.notes
    try:
        runtime.patiently(partial(runtime.recorder.flush, notes), PATIENCE)
    except SQLAlchemyError:  # the outcome counts more than a line that cannot be stored
        _log.exception("notes are dropped", job_id=str(execution.claim.id))


def _is_reported(execution: Execution, ended: Ended) -> bool:
    """Whether the report was committed, and only the answer to it lost."""
    claim = execution.claim
    (held,) = execution.runtime.ask(
        lambda c: workers.look(c, [(claim.id, claim.attempt)]), PATIENCE
    )
    failed_after_all = ended.outcome in {Outcome.RETRIED, Outcome.FAILED}
    return held.outcome == ended.outcome or (failed_after_all and held.outcome == Outcome.CANCELLED)


def _move(claim: Claim, ended: Ended, usage: Usage) -> Callable[..., Moved]:
    move = partial(_MOVES[ended.outcome], job_id=claim.id, attempt=claim.attempt, usage=usage)
    match ended.outcome:
        case Outcome.RETRIED:
            return partial(move, error=ended.error, delay=ended.delay)
        case Outcome.FAILED:
            return partial(move, error=ended.error)
        case _:
            return partial(move, reason=ended.reason)


_MOVES: dict[Outcome, Callable[..., Moved]] = {
    Outcome.RETRIED: lifecycle.retry_later,
    Outcome.FAILED: lifecycle.fail,
    Outcome.CANCELLED: lifecycle.cancel_running,
    Outcome.INTERRUPTED: lifecycle.interrupt,
}


def usage_of(execution: Execution) -> Usage:
    """What the attempt has taken so far.

    Of an async handler on threads only its time is known: it shares its thread with others.
    """
    runtime, ran = execution.runtime, execution.link.age
    if not runtime.forked and execution.kind.is_async:
        return Usage(run_seconds=ran)
    said = runtime.board.heard(execution.claim.id, execution.claim.attempt)
    taken = runtime.meter.end(execution.start, said.peak_rss)
    ran = max(0.0, ran - runtime.meter.waited_since(execution.start))
    return Usage(taken.max_rss_bytes, taken.cpu_seconds, ran)
