"""The worker's presence: a step of Celery's worker that starts board, watch and heartbeat.

In the parent it begins once the pool runs and before the first bell is heard, and ends when the
last attempt has: the pool's stop waits for them, and their leases must hold meanwhile.
"""

import contextlib
import os
import signal
import socket
from types import FrameType
from typing import Any
from uuid import UUID

import structlog
from billiard import get_start_method
from celery import bootsteps
from celery.platforms import EX_OK
from celery.worker import state
from celery.worker.components import Pool
from sqlalchemy.orm import configure_mappers

from jobs import forks
from jobs.hints import CANCEL
from jobs.workers import WorkerProcess
from worker.board import Board, ThreadBoard
from worker.ear import Ear
from worker.heartbeat import Heart
from worker.pools import is_forking
from worker.reports import Reports
from worker.shared_board import SharedBoard
from worker.thread_watch import ThreadWatch
from worker.watch import ProcessWatch, Watch

FEWEST = 32  # processes that the board has room for, and …
SPARE = 4  # … times as many as there are slots: a pool may be told to grow
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_log = structlog.get_logger(__name__)


class Presence(bootsteps.StartStopStep):
    """See Celery's documentation of bootsteps: made before the pool forks, started after it."""

    requires = (Pool,)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.app.presence = self
        self._app = worker.app
        self._watch: Watch | None = None
        self._heart: Heart | None = None
        self._ear: Ear | None = None
        self._wakes, self._waker = os.pipe()
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._waker, False)

    def create(self, worker: Any) -> None:
        """The board is there, for the children to inherit, and the mappers are configured."""
        self._app.begin(self._make_board(worker))
        forks.guard()
        configure_mappers()  # once for all children

    def start(self, worker: Any) -> None:
        """The worker is known to the database and watched."""
        app = self._app
        reports = Reports(app.settings, app.registry, app.worker_id)
        if is_forking(worker.pool_cls):
            self._watch = ProcessWatch(
                app.settings, app.board, reports, lambda: worker.pool, self._on_death
            )
        else:
            self._watch = ThreadWatch(app.settings, app.board, reports, app.runtime().links)
        app.watch = self._watch
        self._heart = Heart(app.settings, app.registry, self._describe(worker), self._watch)
        self._heart.begin(state.maybe_shutdown)
        self._watch.begin(self._heart.end)
        self._ear = self._listen(self._heart)
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """A signal or a death wakes the hub, which else would sleep on for up to a second."""
        hub.add_reader(self._wakes, self._wake, worker)

    def close(self, _worker: Any) -> None:
        """The worker is stopping, whoever asked for it."""
        if self._watch is not None:
            _log.info("worker stopping", pid=os.getpid())
            self._app.board.say_all_taken(is_so=False)
            self._watch.stop_soon()

    def stop(self, _worker: Any) -> None:
        """Nothing yet: the pool waits for its attempts after this."""

    def terminate(self, _worker: Any) -> None:
        """As `stop`."""

    @property
    def facts(self) -> dict[str, Any]:
        """For the log: who this is, and what it serves."""
        if self._heart is None:
            return {}
        worker = self._heart.worker
        return {
            "worker_id": str(worker.id),
            "pid": worker.pid,
            "pool": worker.pool,
            "queues": worker.queues,
            "slots": worker.slots,
        }

    def end(self) -> None:
        """All attempts have ended; the worker signs off."""
        if self._ear is not None:
            self._ear.closing.set()
        if self._watch is not None and self._heart is not None:
            self._watch.close()
            self._watch.reports.drain(self._watch.seconds_left)
            self._heart.end()
        self._app.board.close()

    def _wake(self, worker: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakes, 4096)
        if is_forking(worker.pool_cls):
            worker.pool.maintain_pool()  # the dead are replaced

    def _on_death(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it wakes anyway
            os.write(self._waker, b"\0")

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        """The first signal ends the worker when its attempts have ended; the second one, now."""
        assert self._watch is not None
        if state.should_stop is None:
            state.should_stop = EX_OK  # type: ignore[assignment]
            self._watch.stop_soon()
        else:
            self._watch.stop_now()

    def _listen(self, heart: Heart) -> Ear:
        """From now on a cancel request is heard of at once; without the broker at the next beat."""
        board = self._app.board

        def hear(message: bytes) -> None:
            job_id, _, attempt = message.decode(errors="replace").partition(":")
            with contextlib.suppress(ValueError):  # nothing that this version knows
                if board.names(UUID(job_id), int(attempt)):
                    heart.hurry()

        url = self._app.settings.broker_url.get_secret_value()
        ear = Ear(url, CANCEL, on_open=heart.hurry, on_message=hear)
        ear.begin()
        return ear

    def _make_board(self, worker: Any) -> Board:
        if not is_forking(worker.pool_cls):
            return ThreadBoard()
        is_forked = worker.pool_start_method == get_start_method() == "fork"
        slots = worker.max_concurrency or worker.concurrency
        return SharedBoard.create(max(FEWEST, SPARE * slots), is_forked=is_forked)

    def _describe(self, worker: Any) -> WorkerProcess:
        return WorkerProcess(
            id=self._app.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            pool="prefork" if is_forking(worker.pool_cls) else "threads",
            queues=sorted(self._app.amqp.queues.consume_from),
            kinds=list(self._app.registry),
            slots=worker.max_concurrency or worker.concurrency,
        )
