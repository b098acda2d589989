"""What the worker's parent sees of a bell that it gave to its pool."""

import contextlib
from collections.abc import Sequence
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]
from celery.exceptions import Ignore, Terminated, WorkerLostError
from celery.worker import request, state

from jobs.broker import read_attempts
from worker.tasks import AttemptFailed, Listed, Made


class Request(request.Request):
    """A bell. Celery derives a class from this one for each kind.

    The attempts of a list are tasks of their own to whoever watches Celery's events: all but the
    first, which the bell itself is, are told here, once they have ended.
    """

    def revoked(self) -> bool:
        """Whether it is dropped: also when its attempts run here already."""
        if self._runs_here():
            state.task_ready(self)
            self.acknowledge()
            return True
        return bool(super().revoked())

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """The pool makes its attempts from now on."""
        app: Any = self.app
        if app.watch is not None:
            app.watch.hurry()
        super().on_accepted(pid, time_accepted)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Whoever watches hears of the bell's task, and with its success of the list's others."""
        if type == "task-succeeded" and (listed := Listed.read(fields["result"])) is not None:
            self._tell(listed.others)
            fields["result"] = repr(listed.word)
        super().send_event(type, **fields)

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
        if isinstance(error, AttemptFailed) and len(error.args) > 1:
            self._tell(error.args[1])
            error.args = error.args[:1]
        if isinstance(error, Ignore) and error.args:
            self._tell(error.args[0])
        super().on_failure(exc_info, send_failed_event, return_ok)

    def _runs_here(self) -> bool:
        app: Any = self.app
        watch = app.watch
        if watch is None:
            return False
        with contextlib.suppress(TypeError, ValueError):  # no bell of ours: the task will say so
            return all(watch.board.names(*each) for each in read_attempts(self.args))
        return False

    def _tell(self, others: Sequence[Made]) -> None:
        """Celery's own events of these attempts, as far as somebody listens.

        https://docs.celeryq.dev/en/stable/userguide/monitoring.html#task-events
        """
        eventer = self.eventer
        if not (eventer and eventer.enabled):
            return
        for task, word, is_fine, began, ended in others:
            facts = {"uuid": task, "name": self.name, "args": "(1 attempt)", "kwargs": "{}"}
            eventer.send("task-received", timestamp=began, retries=0, eta=None, **facts)
            eventer.send("task-started", uuid=task, timestamp=began)
            if is_fine:
                outcome: dict[str, Any] = {"result": repr(word), "runtime": ended - began}
            else:
                outcome = {"exception": f"AttemptFailed({word!r})", "traceback": ""}
            end = "task-succeeded" if is_fine else "task-failed"
            eventer.send(end, uuid=task, timestamp=ended, **outcome)
