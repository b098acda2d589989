"""The executor: one attempt as a pipeline, claim → read args → run → judge → flush → report.

Each step that speaks with PostgreSQL is one statement, guarded by the attempt's number, so it may
be tried again; between claim and report no connection is held. Handlers may raise whatever they
like: here alone it is caught, and becomes the attempt's outcome.
"""

import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from jobs import documents, lifecycle
from jobs.attempts import Outcome, Usage
from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Claim, Moved
from lading.authoring import Kind
from lading.context import Attempt
from lading.outcomes import JobTimeout
from worker import outcomes
from worker.board import Running
from worker.context import AsyncContext, SyncContext, Tie
from worker.limits import alarm, can_alarm
from worker.link import Link
from worker.notes import Notes
from worker.outcomes import Ended
from worker.runtime import Runtime

CLAIM_WITHIN = 5.0  # seconds that a claim waits for PostgreSQL; then the bell is rung again one day
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in getrusage(2)'s ru_maxrss

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Execution:
    """The value that goes through the pipeline."""

    runtime: Runtime
    claim: Claim
    kind: Kind
    link: Link
    notes: Notes
    cpu_at_start: float
    args: BaseModel | None = None


def execute(runtime: Runtime, job_id: UUID, attempt: int) -> Ended:
    """The attempt has been made and reported; how it ended.

    LeaseLost: nothing was done, for the doorbell is stale. DatabaseUnavailable: PostgreSQL was away
    for too long; the lease of what was claimed runs out.
    """
    with runtime.board.place(job_id, attempt) as place:
        claim = _claim(runtime, job_id, attempt)
        execution = _prepare(runtime, claim)
        running = _announce(execution, place)
        try:
            ended = _end(execution)
            runtime.board.write(running._replace(limit=math.inf))  # a report takes what it takes
            return _report(execution, ended)
        finally:
            runtime.links.pop((job_id, attempt), None)
            runtime.recorder.close(execution.notes)


def _claim(runtime: Runtime, job_id: UUID, attempt: int) -> Claim:
    start = partial(
        lifecycle.start,
        job_id=job_id,
        attempt=attempt,
        worker=runtime.worker_id,
        lease=runtime.settings.lease,
    )
    return runtime.move(start, CLAIM_WITHIN)


def _prepare(runtime: Runtime, claim: Claim) -> Execution:
    kind = runtime.registry[claim.kind]
    facts = Attempt(
        claim.id, claim.kind, claim.attempt, claim.failures, claim.max_attempts, claim.labels
    )
    limit = claim.timeout_seconds
    link = Link(facts, None if limit is None else timedelta(seconds=limit))
    return Execution(runtime, claim, kind, link, Notes(link), _cpu_seconds(runtime))


def _announce(execution: Execution, place: Running) -> Running:
    """From now on the watch knows the attempt's limit, and the recorder its notes."""
    runtime, link = execution.runtime, execution.link
    running = place._replace(since=link.started_at, is_claimed=True)
    if link.limit is not None:
        running = running._replace(limit=link.limit.total_seconds())
    runtime.board.write(running)
    runtime.links[running.key] = link
    runtime.recorder.open(execution.notes)
    return running


def _end(execution: Execution) -> Ended:
    claim, kind = execution.claim, execution.kind
    try:
        # As JSON text, like at the submission: the two modes of Pydantic differ in what they take.
        execution.args = kind.args_model.model_validate_json(documents.encode(claim.args))
    except ValidationError as error:
        return outcomes.refused(error, kind.args_model)
    tie = Tie(execution.runtime, claim, execution.link, execution.notes)
    run = _run_async if kind.is_async else _run_sync
    return _judge(execution, run(execution, tie))


class Caught:
    """What the handler brought: a value, or what it raised. Use it as a context manager."""

    value: Any = None
    error: BaseException | None = None
    is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        """Everything is caught but the end of this process, which its parent reports."""
        self.error, self.is_over = error, True
        return error is not None and not terminate_handler_fired()


def _run_sync(execution: Execution, tie: Tie) -> Caught:
    link, context = execution.link, SyncContext(tie)
    caught = Caught()
    with caught, alarm(link) if can_alarm() else nullcontext():
        caught.value = execution.kind.handler(context, execution.args)
    return caught


def _run_async(execution: Execution, tie: Tie) -> Caught:
    caught, context = Caught(), AsyncContext(tie)

    async def run() -> None:
        with caught:
            caught.value = await execution.kind.handler(context, execution.args)

    execution.runtime.loop.run(run(), execution.link)
    if caught.is_over:
        return caught
    abandoned = Caught()  # while the other one may still change
    abandoned.error = JobTimeout()
    return abandoned


def _judge(execution: Execution, caught: Caught) -> Ended:
    claim, kind, stop = execution.claim, execution.kind, execution.link.reason
    error = caught.error
    if error is None:
        result = Caught()
        with result:
            return outcomes.returned(kind, caught.value)
        error = result.error
        assert error is not None
    return outcomes.raised(claim, kind, error, stop)


def _report(execution: Execution, ended: Ended) -> Ended:
    """The rest of the notes and then the outcome are stored, if the attempt still holds its job."""
    runtime, notes, claim = execution.runtime, execution.notes, execution.claim
    if ended.outcome is Outcome.LEASE_LOST:
        return _lost(claim)
    try:
        _flush(runtime, notes)
        runtime.move(_move(claim, ended, _usage(execution)))
    except LeaseLost:
        return _lost(claim)
    except DatabaseUnavailable:
        _log.exception("attempt not reported", job_id=str(claim.id), attempt=claim.attempt)
        raise
    return ended


def _flush(runtime: Runtime, notes: Notes) -> None:
    try:
        runtime.patiently(partial(runtime.recorder.flush, notes))
    except SQLAlchemyError:  # the outcome counts more than a line that cannot be stored
        _log.exception("notes are dropped", job_id=str(notes.link.facts.job_id))


def _lost(claim: Claim) -> Ended:
    _log.warning("job lost by its attempt", job_id=str(claim.id), attempt=claim.attempt)
    return Ended(Outcome.LEASE_LOST)


def _move(claim: Claim, ended: Ended, usage: Usage) -> Callable[..., Moved]:
    report = partial(_MOVES[ended.outcome], job_id=claim.id, attempt=claim.attempt, usage=usage)
    match ended.outcome:
        case Outcome.SUCCEEDED:
            return partial(report, result=ended.result)
        case Outcome.RETRIED:
            return partial(report, error=ended.error, delay=ended.delay)
        case Outcome.FAILED:
            return partial(report, error=ended.error)
        case _:
            return partial(report, reason=ended.reason)


_MOVES: dict[Outcome, Callable[..., Moved]] = {
    Outcome.SUCCEEDED: lifecycle.succeed,
    Outcome.RETRIED: lifecycle.retry_later,
    Outcome.FAILED: lifecycle.fail,
    Outcome.CANCELLED: lifecycle.cancel_running,
    Outcome.INTERRUPTED: lifecycle.interrupt,
}


def _usage(execution: Execution) -> Usage:
    """Of the process, where that is the attempt's own; of a thread its CPU time, if that is."""
    runtime = execution.runtime
    if not runtime.forked and execution.kind.is_async:
        return Usage()
    cpu = _cpu_seconds(runtime) - execution.cpu_at_start
    if not runtime.forked:
        return Usage(cpu_seconds=cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return Usage(max_rss_bytes=peak, cpu_seconds=cpu)


def _cpu_seconds(runtime: Runtime) -> float:
    return time.process_time() if runtime.forked else time.thread_time()
