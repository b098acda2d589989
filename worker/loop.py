"""The event loop of a process: one, in a thread of its own, for all its async handlers."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

from worker.link import Link, Stop

LAST_CALL = 1.0  # seconds that a handler gets after its hard limit to heed the second cancellation


class Loop:
    """Runs coroutines for threads that wait for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="event loop", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, None], link: Link) -> None:
        """The coroutine has ended, or, a while after its hard limit, is left to itself.

        It is cancelled when the link says stop, at its soft limit, and once more at the hard one.
        """
        future = asyncio.run_coroutine_threadsafe(_linked(coroutine, link), self._loop)
        limit = None if link.limit is None else link.limit.total_seconds() - link.age
        if _ends_within(future, limit):
            return
        link.insist()
        while not _ends_within(future, LAST_CALL):
            if self._responds(LAST_CALL):
                link.detach()
                return

    def _run(self) -> None:
        """A handler's task that wants its process to exit ends that handler, not the others' loop.

        asyncio passes SystemExit and KeyboardInterrupt on, to whoever runs the loop.
        """
        while True:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def _responds(self, within: float) -> bool:
        """Whether no handler holds the loop."""
        answer = threading.Event()
        self._loop.call_soon_threadsafe(answer.set)
        return answer.wait(within)


async def _linked(coroutine: Coroutine[Any, Any, None], link: Link) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    link.attach(lambda: loop.call_soon_threadsafe(task.cancel))
    soft = link.soft_limit
    timer = None if soft is None else loop.call_later(soft - link.age, link.stop, Stop.TIMEOUT)
    try:
        await coroutine
    finally:
        link.detach()
        if timer is not None:
            timer.cancel()


def _ends_within(future: concurrent.futures.Future[None], seconds: float | None) -> bool:
    done, _ = concurrent.futures.wait([future], None if seconds is None else max(seconds, 0))
    return bool(done)
