"""The executor: one attempt as a pipeline, claim → read args → handle → report.

Each step that speaks with PostgreSQL is one statement, guarded by the attempt's number, so it may
be tried again; between claim and report no connection is held.
"""

import math
from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError

from jobs import documents
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
from worker.reporting import report
from worker.runtime import Runtime


def execute(runtime: Runtime, job_id: UUID, attempt: int) -> Ended:
    """The attempt has been made and reported; how it ended.

    LeaseLost: nothing was done, for the doorbell is stale. DatabaseUnavailable: nothing was done
    either, for PostgreSQL was away.
    """
    with runtime.board.place(job_id, attempt) as place:
        execution = _prepare(runtime, claim(runtime, job_id, attempt))
        running = _announce(execution, place)
        try:
            ended = _read_and_handle(execution)
            # A report takes what it takes: nothing is left to end but the saying.
            runtime.board.write(running._replace(limit=math.inf, is_reporting=True))
            return report(execution, ended)
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
        args = model.model_validate_json(documents.encode(execution.claim.args))
    except ValidationError as error:
        return outcomes.refused(error, model)
    return handle(execution, args)
