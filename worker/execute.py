"""The executor: an attempt as a pipeline, claim → read args → handle → report.

Each step that speaks with PostgreSQL is one statement, guarded by the attempt's number, so it may
be tried again; between claim and report no connection is held. Of several attempts in a row, the
report of a success brings the claim of the next one along.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog
from pydantic import ValidationError

from jobs.attempts import Outcome
from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Claim
from lading.context import Attempt
from worker import outcomes
from worker.board import Running
from worker.claiming import claim
from worker.execution import Execution
from worker.handling import handle
from worker.link import Link
from worker.notes import Notes
from worker.outcomes import Ended
from worker.passing import Passing
from worker.reporting import report
from worker.runtime import Runtime

_log = structlog.get_logger(__name__)


class Begun(NamedTuple):
    """An attempt that is claimed and stands on the board, until `places` are left."""

    place: Running
    claim: Claim
    places: ExitStack


def execute(runtime: Runtime, attempts: Sequence[tuple[UUID, int]]) -> Iterator[Ended | None]:
    """The attempts have been made and reported, one after the other; how each of them ended.

    None: nothing was done, for it was stale, or PostgreSQL was away.
    """
    begun: Begun | None = None
    for number, attempt in enumerate(attempts):
        begun = begun or _begin(runtime, attempt, partial(claim, runtime, *attempt))
        if begun is None:
            yield None
            continue
        following = attempts[number + 1] if number + 1 < len(attempts) else None
        with begun.places:
            ended, begun = _make(runtime, begun, following)
        yield ended


def _begin(runtime: Runtime, attempt: tuple[UUID, int], take: Callable[[], Claim]) -> Begun | None:
    """The attempt is this process's, if `take` brings its claim."""
    job_id, number = attempt
    with ExitStack() as places:
        place = places.enter_context(runtime.board.place(job_id, number))
        try:
            return Begun(place, take(), places.pop_all())
        except LeaseLost:
            _log.debug("stale doorbell", job_id=str(job_id), attempt=number)
        except DatabaseUnavailable:
            _log.warning("doorbell dropped: no database", job_id=str(job_id), attempt=number)
    return None


def _make(
    runtime: Runtime, begun: Begun, following: tuple[UUID, int] | None
) -> tuple[Ended, Begun | None]:
    """How the attempt ended, and the following one, if it was claimed on the way."""
    execution = _prepare(runtime, begun.claim)
    running = _announce(execution, begun.place)
    try:
        ended = _read_and_handle(execution)
        # A report takes what it takes: nothing is left to end but the saying.
        runtime.board.write(running._replace(limit=math.inf, is_reporting=True))
        if following is None or ended.outcome is not Outcome.SUCCEEDED:
            return report(execution, ended), None
        passing = Passing(execution, ended, following)
        begun_next = _begin(runtime, following, passing.take)
        return passing.ended, begun_next
    finally:
        runtime.links.pop(running.key, None)
        runtime.recorder.close(execution.notes)


def _prepare(runtime: Runtime, claimed: Claim) -> Execution:
    kind, limit = runtime.registry[claimed.kind], claimed.timeout_seconds
    facts = Attempt(
        claimed.id,
        claimed.kind,
        claimed.attempt,
        claimed.failures,
        claimed.max_attempts,
        claimed.labels,
    )
    link = Link(facts, None if limit is None else timedelta(seconds=limit))
    return Execution(runtime, claimed, kind, link, Notes(link), runtime.meter.begin())


def _announce(execution: Execution, place: Running) -> Running:
    """From now on the watch knows the attempt's limit, and the recorder its notes."""
    runtime, link = execution.runtime, execution.link
    limit = math.inf if link.limit is None else link.limit.total_seconds()
    running = place._replace(
        since=link.started_at,
        limit=limit,
        is_claimed=True,
        memory_limit=execution.kind.memory_limit or 0,
        cpu_at_start=execution.start.cpu,
        rss_at_start=execution.start.rss,
        memory_at_start=execution.start.memory,
    )
    runtime.board.write(running)
    runtime.links[running.key] = link
    runtime.recorder.open(execution.notes)
    return running


def _read_and_handle(execution: Execution) -> Ended:
    model = execution.kind.args_model
    try:
        # As JSON text, like at the submission: the two modes of Pydantic differ in what they take.
        args = model.model_validate_json(execution.claim.args)
    except ValidationError as error:
        return outcomes.refused(error, model)
    return handle(execution, args)
