"""Celery's side of an attempt: one task per kind, whose message names the attempts to be made.

What Celery and Flower learn is the outcome's word; results, messages and args stay in PostgreSQL.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from celery import Task
from celery.exceptions import Ignore

from jobs.attempts import Outcome
from jobs.broker import read_attempts, task_id
from worker.execute import execute
from worker.outcomes import Ended

FINE = frozenset({Outcome.SUCCEEDED, Outcome.CANCELLED})  #: Celery's SUCCESS; all else is FAILURE

_log = structlog.get_logger(__name__)


class AttemptFailed(Exception):
    """The attempt did not bring a result; its job says why."""


class Doorbell(Task):  # type: ignore[type-arg] # not generic at run time
    """Makes the attempts that its message names, one after the other.

    To Celery the task is the first of them. What became of the others is told to its parent, as
    `Listed` or as the last argument of AttemptFailed or Ignore.
    """

    abstract = True
    Request = "worker.request:Request"
    throws = (AttemptFailed,)
    ignore_result = True
    resultrepr_maxsize = 65_536  # characters: twice what a list of fifty and what follows need

    def run(self, attempts: Sequence[Any], *, is_limited: bool = False) -> "str | Listed":
        """The outcome of the first attempt.

        Ignore when it was not to be made; AttemptFailed when it did not succeed.
        `is_limited`: another one may start where they end, and the dispatcher hears of that.
        """
        named = read_attempts([attempts])
        made = [*self._make(named, gathers=not is_limited)]
        if not made:
            raise Ignore
        if is_limited:
            app: Any = self.app
            app.runtime().hints.wake([self._queue()])
        first, *others = made
        if first.task_id != task_id(*named[0]):
            raise Ignore(made)
        if not first.is_fine:
            raise AttemptFailed(first.word, others) if others else AttemptFailed(first.word)
        return Listed(first.word, others) if others else first.word

    def _make(self, attempts: Sequence[tuple[UUID, int]], *, gathers: bool) -> "Iterator[Made]":
        app: Any = self.app
        asked = (self.name, self._queue()) if gathers else (None, None)
        for turn in execute(app.runtime(), attempts, *asked):
            if (end := turn.ended) is None:
                continue
            ended = time.time()
            began = ended - turn.seconds
            made = Made(task_id(*turn.key), _word(end), end.outcome in FINE, began, ended)
            say = _log.debug if made.is_fine else _log.info
            facts = {"job_id": str(turn.key[0]), "attempt": turn.key[1], "kind": self.name}
            say("attempt ended", **facts, outcome=made.word)
            yield made

    def _queue(self) -> str:
        return str((self.request.delivery_info or {})["routing_key"])


class Made(NamedTuple):
    """An attempt that was made, as Celery's events show it."""

    task_id: str
    word: str  #: how it ended
    is_fine: bool
    began: float  #: seconds since 1970; this and the next: for people to see
    ended: float


class Listed:
    """The first attempt of a list has brought a result.

    Celery gives its parent no more than the text of it, which is read there again.
    """

    def __init__(self, word: str, others: Sequence[Made]) -> None:
        self.word, self.others = word, others

    def __repr__(self) -> str:
        return json.dumps([self.word, *self.others])

    @classmethod
    def read(cls, text: str) -> "Listed | None":
        """None, where the text is not from here."""
        if not text.startswith("["):
            return None
        word, *others = json.loads(text)
        return cls(word, [Made(*each) for each in others])


def _word(end: Ended) -> str:
    return str(end.outcome) if end.error is None else f"{end.outcome}: {end.error.cause}"
