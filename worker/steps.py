"""The steps of a job as one attempt knows them, and where in them children are submitted."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from jobs.bus.envelope import NewEvent
from jobs.lifecycle import Claim
from jobs.steps import read_steps
from jobs.submissions import NewJob
from lading.context import StepNames
from worker.runtime import Runtime

MISSING: Final = object()


class Steps:
    """What attempts have stored, and which names this one has used."""

    def __init__(self, runtime: Runtime, claim: Claim) -> None:
        self.names = StepNames()
        self._runtime, self._job_id = runtime, claim.id
        self._stored: dict[str, Any] | None = {} if claim.attempt == 1 else None

    def find(self, name: str) -> Any:
        """The step's stored result, or MISSING."""
        if self._stored is None:
            self._stored = self._runtime.ask(lambda c: read_steps(c, self._job_id))
        return self._stored.get(name, MISSING)

    def ask(self, name: str) -> Any:
        """The same as PostgreSQL has it now; waits while it is away."""
        self._stored = None
        return self.find(name)

    def add(self, name: str, result: Any) -> None:
        """The step is stored."""
        if self._stored is not None:
            self._stored[name] = result


class Scope:
    """A part of a handler in which children are counted: all of it, a step, or a transaction.

    A step that is not run again submits nothing, so what comes after it must not be counted on.
    """

    def __init__(self, name: str = "", *, defers: bool = False) -> None:
        self.name = name
        self.waiting: list[NewJob] = []  #: children that come with the transaction's end
        self.events: list[NewEvent] = []  #: likewise, what it publishes
        self.defers = defers
        self.is_over = False
        self._count = 0

    def add_event(self, event: NewEvent) -> None:
        """It comes with the transaction's end. RuntimeError after that."""
        if self.is_over:
            raise RuntimeError(f"{self.name!r} is over: what it started publishes nothing any more")
        self.events.append(event)

    def next_child(self) -> int:
        """Which child of this part is submitted now. RuntimeError after its end."""
        if self.is_over:
            raise RuntimeError(f"{self.name!r} is over: what it started submits nothing any more")
        self._count += 1
        return self._count


_inner: ContextVar[Scope | None] = ContextVar("scope", default=None)


def find_scope(outer: Scope) -> Scope:
    """The innermost part that runs, here or in the task that started this one; else `outer`."""
    return _inner.get() or outer


@contextmanager
def within(scope: Scope) -> Iterator[None]:
    """Inside, children are counted in that part."""
    token = _inner.set(scope)
    try:
        yield
    finally:
        scope.is_over = True
        _inner.reset(token)
