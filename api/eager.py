"""Coroutines that are begun at once, outside a task, because they seldom have to wait.

A frame to a client that reads is on its way without waiting: a task for each would cost more than
the frame. (Python 3.12 has the same as asyncio.eager_task_factory.)
"""

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, None] | None:
    """None: it is done. Else it has to wait: what is left of it, to be awaited.

    Call it on the event loop's thread, with what needs no current task. Whatever `work` raises.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    return _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            try:
                answer = yield waits_for
            except BaseException as error:  # noqa: BLE001 - a cancel too is the work's to hear of
                waits_for = work.throw(error)
            else:
                waits_for = work.send(answer)
        except StopIteration:
            return
