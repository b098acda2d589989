"""The handler's turn: it is called with its context, and whatever it raises is caught here.

This is the one place that catches everything; what it caught becomes the attempt's outcome.
"""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars

from lading.outcomes import JobTimeout
from worker import outcomes
from worker.context import AsyncContext, SyncContext
from worker.execution import Execution
from worker.limits import alarm, can_alarm
from worker.outcomes import Ended
from worker.tie import Tie


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


def handle(execution: Execution, args: BaseModel) -> Ended:
    """The handler has run; how its attempt ends."""
    tie = Tie(execution.runtime, execution.claim, execution.link, execution.notes)
    if execution.kind.is_async:
        return _judge(execution, _handle_async(execution, AsyncContext(tie), args))
    return _judge(execution, _handle_sync(execution, SyncContext(tie), args))


def _handle_sync(execution: Execution, context: SyncContext, args: BaseModel) -> Caught:
    caught = Caught()
    limit = alarm(execution.link) if can_alarm() else nullcontext()
    with _named(execution), caught, limit:
        caught.value = execution.kind.handler(context, args)
    return caught


def _handle_async(execution: Execution, context: AsyncContext, args: BaseModel) -> Caught:
    caught = Caught()

    async def run() -> None:
        with _named(execution), caught:
            caught.value = await execution.kind.handler(context, args)

    execution.runtime.loop.run(run(), execution.link)
    if caught.is_over:
        return caught
    abandoned = Caught()  # while the other one may still change
    abandoned.error = JobTimeout()
    return abandoned


def _judge(execution: Execution, caught: Caught) -> Ended:
    claim, kind = execution.claim, execution.kind
    if caught.error is not None:
        return outcomes.raised(claim, kind, caught.error, execution.link.reason)
    result = Caught()  # the handler's own types are turned into JSON, and may refuse that
    with result:
        return outcomes.returned(kind, caught.value)
    assert result.error is not None
    return outcomes.raised(claim, kind, result.error, None)


def _named(execution: Execution) -> AbstractContextManager[None]:
    """Inside, log lines of anybody's name the attempt."""
    claim = execution.claim
    return bound_contextvars(job_id=str(claim.id), attempt=claim.attempt, kind=claim.kind)
