"""Tasks that serve as long as the process does."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class Background:
    """Those of one part of the process. For the event loop's thread alone."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """It runs until `end`; if it fails before, that is logged under its name."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_failure)
        self.tasks.append(task)

    async def end(self) -> None:
        """All have been cancelled, and have ended."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a task that serves streams has ended", task=task.get_name(), exc_info=error)
