"""What the worker's parent sees of a bell that it gave to its pool."""

import contextlib
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]
from celery.exceptions import Terminated, WorkerLostError
from celery.worker import request, state

from jobs.broker import read_attempts


class Request(request.Request):
    """A bell. Celery derives a class from this one for each kind."""

    def revoked(self) -> bool:
        """Whether it is dropped: also when its attempt runs here already."""
        if self._runs_here():
            state.task_ready(self)
            self.acknowledge()
            return True
        return bool(super().revoked())

    def on_failure(
        self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """The attempt failed, or its process died; then the watch hears of it at once."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        app: Any = self.app
        if isinstance(error, WorkerLostError | Terminated | SystemExit):
            app.watch.heard(self.worker_pid, str(error))
        super().on_failure(exc_info, send_failed_event, return_ok)

    def _runs_here(self) -> bool:
        app: Any = self.app
        watch = app.watch
        if watch is None:
            return False
        with contextlib.suppress(TypeError, ValueError):  # no bell of ours: the task will say so
            return any(watch.board.names(*each) for each in read_attempts(self.args))
        return False
