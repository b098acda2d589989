"""A turn: one attempt that a bell names, from its place on the board to its end."""

import math
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import structlog
from pydantic import ValidationError

from jobs import lifecycle
from jobs.attempts import Outcome
from jobs.errors import LeaseLost
from jobs.lifecycle import Claim, Success
from lading.context import Attempt
from worker import outcomes
from worker.board import Running
from worker.claiming import in_time
from worker.execution import Execution
from worker.handling import handle
from worker.link import Link
from worker.notes import Notes
from worker.outcomes import Ended
from worker.reporting import PATIENCE, flush, report, usage_of
from worker.runtime import Runtime

WITHDRAWN = "another attempt before it took long"

_log = structlog.get_logger(__name__)


class Turn:
    """One attempt in its process: claimed by `claim`, then made once."""

    def __init__(self, runtime: Runtime, place: Running) -> None:
        self._runtime, self._place = runtime, place
        self._claim: Claim | None = None
        self._sent_at = 0.0
        self._execution: Execution | None = None
        self.success: Success | None = None  #: that is not reported yet
        self.is_kept = False  #: the parent knows of that success
        self.ended: Ended | None = None  #: None: nothing was done
        self.seconds = 0.0  #: of its handler

    @property
    def key(self) -> tuple[UUID, int]:
        """The attempt that it is."""
        return self._place.key

    def claimed(self, claim: Claim, sent_at: float) -> None:
        """The attempt is this process's, by a claim that was sent then (monotonic)."""
        self._claim, self._sent_at = claim, sent_at

    def make(self) -> None:
        """The handler has run. A success is left to be reported; any other end is.

        Nothing is done if it was not claimed, or may not begin any more.
        """
        if self._claim is None:
            return
        try:
            claim = in_time(self._runtime, self._claim, self._sent_at)
        except LeaseLost:
            self.leave()
            return
        if self._is_withdrawn():
            self._give_back()
            return
        execution = self._execution = self._prepare(claim)
        running = self._announce(execution)
        try:
            if self._is_withdrawn():  # before it was seen to begin
                self._give_back()
            else:
                self._make(execution, running)
        finally:
            self._runtime.links.pop(self.key, None)
            self._runtime.recorder.close(execution.notes)

    def report(self) -> None:
        """Its success is stored by itself, or what there is instead; see `report`."""
        assert self._execution is not None
        assert self.ended is not None
        assert self.success is not None
        self.ended = report(self._execution, self.ended, self.success.usage)
        self.leave()

    def leave(self) -> None:
        """It is over, and stands on the board no more."""
        self.success = None
        self._runtime.board.erase(self._place)

    def _prepare(self, claimed: Claim) -> Execution:
        runtime = self._runtime
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

    def _announce(self, execution: Execution) -> Running:
        """From now on the watch knows the attempt's limit, and the recorder its notes."""
        runtime, link = execution.runtime, execution.link
        limit = math.inf if link.limit is None else link.limit.total_seconds()
        running = self._place._replace(
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

    def _make(self, execution: Execution, running: Running) -> None:
        claim = execution.claim
        ended = self.ended = _read_and_handle(execution)
        usage = usage_of(execution)
        self.seconds = execution.link.age
        if usage.run_seconds is not None:
            self._runtime.sizes.learn(claim.kind, usage.run_seconds)
        if ended.outcome is Outcome.SUCCEEDED:
            self.success = Success(claim.id, claim.attempt, ended.result, usage)
        # A report takes what it takes: nothing is left to end but the saying.
        self._runtime.board.write(running._replace(limit=math.inf, is_reporting=True))
        if self.success is None:
            self.ended = report(execution, ended, usage)
            self.leave()
            return
        with suppress(LeaseLost):  # its report will say so
            flush(execution)
        self.is_kept = self._runtime.board.keep(self.success)

    def _is_withdrawn(self) -> bool:
        return self._runtime.board.heard(*self.key).is_withdrawn

    def _give_back(self) -> None:
        """The parent has withdrawn it, and perhaps already given it back."""
        job_id, attempt = self.key
        _log.debug("withdrawn", job_id=str(job_id), attempt=attempt)
        with suppress(LeaseLost):
            self._runtime.move(
                lambda c: lifecycle.interrupt(c, job_id, attempt=attempt, reason=WITHDRAWN),
                PATIENCE,
            )
        self.leave()


def _read_and_handle(execution: Execution) -> Ended:
    model = execution.kind.args_model
    try:
        # As JSON text, like at the submission: the two modes of Pydantic differ in what they take.
        args = model.model_validate_json(execution.claim.args)
    except ValidationError as error:
        return outcomes.refused(error, model)
    return handle(execution, args)
