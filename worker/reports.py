"""Reports of attempts that cannot report themselves: their process is gone, or is about to go."""

import math
import queue
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jobs import lifecycle, workers
from jobs.attempts import UNKNOWN_USAGE, Usage
from jobs.database import autocommit
from jobs.errors import LeaseLost
from jobs.forks import busy
from jobs.hints import Hints
from jobs.lifecycle import Moved, Success
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.workers import Remains
from lading.retry import RetryPolicy
from worker.board import Running
from worker.engines import make_engine
from worker.link import Stop
from worker.outcomes import overrun
from worker.patience import until_answered
from worker.verdicts import Verdict

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Reports:
    """A thread with a connection of its own; what it is given is reported when PostgreSQL answers.

    Nothing is said of an attempt that another worker made, or that has ended already.
    """

    def __init__(self, settings: Settings, registry: Registry, worker_id: UUID) -> None:
        self._registry, self._worker_id = registry, worker_id
        engine = make_engine(settings, name="worker reports", size=1)
        self._engine = autocommit(engine)
        self._hints = Hints(settings.broker_url.get_secret_value())
        self._waiting = queue.SimpleQueue[Callable[[], None]]()
        self._unfinished = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="reports", daemon=True).start()

    def add(self, running: Running, verdict: Verdict, usage: Usage = UNKNOWN_USAGE) -> None:
        """The attempt's end is reported soon."""
        self._put(partial(self._report, running, verdict, usage))

    def add_success(self, success: Success) -> None:
        """The success of an attempt that is over is reported soon."""
        self._put(partial(self._report_success, success))

    def _put(self, report: Callable[[], None]) -> None:
        with self._lock:
            self._unfinished += 1
        self._waiting.put(report)

    def drain(self, within: float) -> bool:
        """Whether all has been reported and told, which is waited for so many seconds."""
        end = time.monotonic() + within
        while self._unfinished and time.monotonic() < end:
            time.sleep(0.01)
        self._hints.close()
        return not self._unfinished

    def _run(self) -> None:
        while True:
            report = self._waiting.get()
            try:
                report()
            except SQLAlchemyError:
                _log.exception("attempt not reported")
            finally:
                with self._lock:
                    self._unfinished -= 1

    def _report(self, running: Running, verdict: Verdict, usage: Usage) -> None:
        job_id, attempt = running.key
        try:
            moved = self._ask_to_end(running, verdict, usage)
        except LeaseLost:
            if verdict.stop is not None:  # it was there to be ended; one that died did not go on
                self._ask(lambda c: workers.mark_lost(c, self._worker_id, job_id, attempt))
            return
        _log.warning(
            "attempt ended from outside",
            job_id=str(job_id),
            attempt=attempt,
            event_type=moved.type,
            detail=verdict.detail,
        )
        self._hints.tell([moved])

    def _report_success(self, success: Success) -> None:
        job_id, attempt, result, usage = success
        succeed = partial(
            lifecycle.succeed, job_id=job_id, attempt=attempt, result=result, usage=usage
        )
        try:
            moved = self._ask(succeed)
        except LeaseLost:
            self._ask(lambda c: workers.mark_lost(c, self._worker_id, job_id, attempt))
            return
        self._hints.tell([moved])

    def _ask_to_end(self, running: Running, verdict: Verdict, usage: Usage) -> Moved:
        job_id, attempt = running.key
        remains = self._ask(lambda c: workers.find_remains(c, self._worker_id, job_id, attempt))
        if remains is None:
            raise LeaseLost(job_id, attempt)
        move = self._move(remains, running, verdict)
        return self._ask(partial(move, job_id=job_id, attempt=attempt, usage=usage))

    def _move(self, remains: Remains, running: Running, verdict: Verdict) -> Callable[..., Moved]:
        if verdict.stop is None:
            return partial(lifecycle.crash, detail=verdict.detail, cause=verdict.cause)
        if verdict.stop is Stop.CANCELLED:
            return partial(lifecycle.cancel_running, reason=verdict.detail)
        if verdict.stop is not Stop.TIMEOUT:
            return partial(lifecycle.interrupt, reason=verdict.detail)
        kind = self._registry.get(remains.kind)
        policy = RetryPolicy() if kind is None else kind.retry
        delay = policy.delay(remains.failures + 1, remains.max_attempts, random.Random())
        error = overrun(None if math.isinf(running.limit) else running.limit)
        if delay is None:
            return partial(lifecycle.fail, error=error)
        return partial(lifecycle.retry_later, error=error, delay=delay)

    def _ask(self, question: Callable[[Connection], T]) -> T:
        def action() -> T:
            with busy(), self._engine.connect() as connection:
                return question(connection)

        return until_answered(action, math.inf)
