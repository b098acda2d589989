"""The Celery application: transport and process pool, and nothing else of Celery.

`make_celery` has no side effect but Celery's own registries; the entry module is
worker/celery_app.py.
"""

import faulthandler
import os
import signal
import warnings
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import structlog
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_process_init,
    worker_ready,
    worker_shutdown,
)
from kombu import Queue

from jobs import broker
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from kinds import MODULES
from worker import logs
from worker.board import Board, ThreadBoard
from worker.pools import is_forking
from worker.presence import Presence
from worker.runtime import Runtime
from worker.shared_board import SharedBoard
from worker.tasks import Doorbell
from worker.watch import Watch

WORKER_ID = "LADING_WORKER_ID"  # environment: from the parent to its pool processes
STDERR = 2
ASKS_ANEW = 2.0  # seconds; a worker that ends waits for the answer to its last question
START_WITHIN = 30.0  # seconds for a pool process; Celery's 4 are too few on a busy machine

_log = structlog.get_logger(__name__)


class Application(Celery):
    """Celery's application with what the worker's parts need. One per process."""

    settings: Settings
    registry: Registry
    board: Board
    watch: Watch | None = None  #: the parent's, while it runs
    presence: Presence | None = None
    _runtime: Runtime | None = None

    @property
    def worker_id(self) -> UUID:
        """Of this start of the worker, in its parent and its pool processes."""
        return UUID(os.environ[WORKER_ID])

    def begin(self, board: Board) -> None:
        """This is the parent of a new worker."""
        os.environ[WORKER_ID] = str(uuid4())
        self.board = board

    def runtime(self) -> Runtime:
        """This process's runtime."""
        if self._runtime is None or self._runtime.pid != os.getpid():
            forked = not isinstance(self.board, ThreadBoard)
            self._runtime = Runtime(
                self.settings, self.registry, self.worker_id, self.board, forked=forked
            )
        return self._runtime

    def __reduce__(self) -> tuple[Any, ...]:
        """A pool process that was not forked makes its own."""
        return _child_application, ()


def make_celery(settings: Settings) -> Application:
    """The application with one task per kind, named after it."""
    app = Application("lading", set_as_current=True)
    app.settings = settings
    app.registry = load_registry((*MODULES, *settings.kinds))
    app.conf.update(broker.configuration(settings))
    app.conf.update(_WORKER)
    for name in app.registry:
        app.register_task(type("Doorbell", (Doorbell,), {"name": name, "__module__": __name__})())
    app.steps["worker"].add(Presence)
    celeryd_init.connect(_configure, weak=False, dispatch_uid=__name__)
    setup_logging.connect(logs.configure, weak=False, dispatch_uid=__name__)
    worker_process_init.connect(partial(_begin_child, app), weak=False, dispatch_uid=__name__)
    worker_ready.connect(_ready, weak=False, dispatch_uid=__name__)
    worker_shutdown.connect(_end, weak=False, dispatch_uid=__name__)
    return app


_WORKER: dict[str, Any] = {
    "task_acks_late": False,  # a bell that is lost after its ack is rung again
    "task_create_missing_queues": True,
    "worker_consumer": "worker.consumer:Consumer",
    "worker_prefetch_multiplier": 1,
    "worker_enable_prefetch_count_reduction": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_send_task_events": False,  # Flower switches them on while it runs
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_proc_alive_timeout": START_WITHIN,
}


def _configure(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """The pool decides the queues, unless -Q names them, and how bells are taken."""
    app = instance.app
    if not isinstance(app, Application):
        return
    forking = is_forking(options.get("pool_cls") or options.get("pool") or conf.worker_pool)
    instance.quiet = True  # no banner in the logs
    warnings.simplefilter("ignore", SecurityWarning)  # of root: it means pickle, which we refuse
    # The question for bells is asked anew after so long, and not each second. Here alone: whoever
    # waits for other answers would sleep that long between its looks.
    conf.broker_transport_options = {**conf.broker_transport_options, "polling_interval": ASKS_ANEW}
    conf.worker_disable_prefetch = forking  # a finishing thread does not wake the hub for the next
    if not options.get("queues"):
        queues = app.registry.queues(on_threads=not forking)
        conf.task_queues = [Queue(name) for name in queues]


def _begin_child(app: Application, **_: Any) -> None:
    """A pool process makes its own runtime, before its first attempt has to wait for it."""
    signal.set_wakeup_fd(-1)  # the parent's
    faulthandler.enable(file=STDERR)  # where native code died stands in the worker's log
    app.board.succeed()
    app.runtime()


def _ready(sender: Any, **_: Any) -> None:
    presence = getattr(sender.app, "presence", None)
    if presence is not None:
        _log.info("worker ready", **presence.facts)


def _end(sender: Any, **_: Any) -> None:
    presence = getattr(sender.app, "presence", None)
    if presence is not None:
        presence.end()


def _child_application() -> Application:
    app: Application = import_module("worker.celery_app").app
    app.board = SharedBoard.inherited()
    return app
