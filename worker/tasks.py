"""Celery's side of an attempt: one task per kind, whose message names the attempts to be made.

What Celery and Flower learn is the outcome's word; results, messages and args stay in PostgreSQL.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore

from jobs.attempts import Outcome
from jobs.broker import read_attempts
from jobs.errors import DatabaseUnavailable, LeaseLost
from worker.execute import execute
from worker.outcomes import Ended

FINE = frozenset({Outcome.SUCCEEDED, Outcome.CANCELLED})  #: Celery's SUCCESS; all else is FAILURE

_log = structlog.get_logger(__name__)


class AttemptFailed(Exception):
    """The attempt did not bring a result; its job says why."""


class Doorbell(Task):  # type: ignore[type-arg] # not generic at run time
    """Makes the attempts that its message names, one after the other."""

    abstract = True
    Request = "worker.request:Request"
    throws = (AttemptFailed,)
    ignore_result = True

    def run(self, attempts: Sequence[Any], *, is_limited: bool = False) -> str:
        """The outcome of a single attempt, or how many were made.

        Ignore when nothing was to be done; AttemptFailed when one of them did not succeed.
        `is_limited`: another one may start where they end, and the dispatcher hears of that.
        """
        ends = [end for end in map(self._make, read_attempts([attempts])) if end is not None]
        if not ends:
            raise Ignore
        if is_limited:
            app: Any = self.app
            info = self.request.delivery_info or {}
            app.runtime().hints.wake([info["routing_key"]])
        words = ", ".join(sorted({_word(end) for end in ends}))
        if any(end.outcome not in FINE for end in ends):
            raise AttemptFailed(words)
        return words

    def _make(self, attempt: tuple[Any, int]) -> Ended | None:
        job_id, number = attempt
        app: Any = self.app
        try:
            end = execute(app.runtime(), job_id, number)
        except LeaseLost:
            _log.debug("stale doorbell", job_id=str(job_id), attempt=number)
        except DatabaseUnavailable:
            _log.warning("doorbell dropped: no database", job_id=str(job_id), attempt=number)
        else:
            say = _log.debug if end.outcome in FINE else _log.info
            facts = {"job_id": str(job_id), "attempt": number, "kind": self.name}
            say("attempt ended", **facts, outcome=_word(end))
            return end
        return None


def _word(end: Ended) -> str:
    return str(end.outcome) if end.error is None else f"{end.outcome}: {end.error.cause}"
