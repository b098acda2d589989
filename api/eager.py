"""Coroutines that are begun at once, outside a task, because they seldom have to wait.

A frame to a client that reads is on its way without waiting: a task for each would cost more than
the frame. (Python 3.12 has the same as asyncio.eager_task_factory.)
"""

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any


def begin(work: Coroutine[Any, Any, Any]) -> Awaitable[None] | None:
    """None: it is done. Else it has to wait: what is left of it, to be awaited.

    Call it on the event loop's thread, with what needs no current task. Whatever `work` raises.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    return _Rest(work, waits_for)


class _Rest(Generator[Any, Any, None]):
    """A coroutine that goes on from where it waits."""

    def __init__(self, work: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def send(self, value: Any) -> Any:
        if self._waits_for is None:
            return self._work.send(value)
        waits_for, self._waits_for = self._waits_for, None
        return waits_for

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error)
