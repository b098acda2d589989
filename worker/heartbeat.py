"""The heartbeat: the parent says that it lives, and keeps the leases of what really runs in it.

A thread with a connection of its own: neither a busy child nor a hanging broker can stop it. What
it names stands on the board, so a lease is renewed only while the attempt is being made.
"""

import threading
import time
from collections.abc import Callable
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs import workers
from jobs.bus.declared import register_triggers
from jobs.catalogue import register_kinds
from jobs.database import autocommit
from jobs.forks import busy
from jobs.registry import Registry
from jobs.schedules.code import register_schedules
from jobs.settings import Settings
from jobs.workers import Held, WorkerProcess
from worker.board import Running
from worker.engines import make_engine
from worker.verdicts import LOST
from worker.watch import Watch

BREATH = 0.02  # seconds that a hurried beat waits for more news, which then takes it as well
FIRST_PAUSE = 1.0  # seconds between two tries to sign on
FAREWELL_WITHIN = 1.0  # seconds for the last statement

_log = structlog.get_logger(__name__)


class Heart:
    """One worker's."""

    def __init__(
        self, settings: Settings, registry: Registry, worker: WorkerProcess, watch: Watch
    ) -> None:
        self.worker, self._registry, self._watch = worker, registry, watch
        self._lease = settings.lease
        self._every = settings.heartbeat.total_seconds()
        self._engine: Engine = autocommit(make_engine(settings, name="heartbeat", size=1))
        self._missing: set[tuple[UUID, int]] = set()
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def begin(self, check: Callable[[], object]) -> None:
        """The worker is known with its kinds, and beats from now on.

        Waits for PostgreSQL as long as it takes; `check` is called meanwhile, and may raise.
        """
        while not (self._beats() and self._introduces()):
            check()
            self._closing.wait(FIRST_PAUSE)
        self._thread.start()

    def hurry(self) -> None:
        """The next beat is now: there may be news of what runs here."""
        self._hurry.set()

    def end(self) -> None:
        """The worker has signed off, if PostgreSQL answers within a second."""
        self._closing.set()
        self._hurry.set()
        farewell = threading.Thread(target=self._sign_off, name="farewell", daemon=True)
        farewell.start()
        farewell.join(FAREWELL_WITHIN)

    def _run(self) -> None:
        next_at = time.monotonic() + self._every
        while not self._closing.is_set():
            if not self._hurry.wait(max(next_at - time.monotonic(), 0)):
                next_at = max(next_at, time.monotonic() - self._every) + self._every
            elif self._closing.wait(BREATH):
                return
            self._hurry.clear()
            self._beats()

    def _beats(self) -> bool:
        begun = time.monotonic()
        standing = {running.key: running for running in self._watch.board.running()}
        try:
            with busy(), self._engine.connect() as connection:
                workers.beat(connection, self.worker)
                held = (
                    workers.renew(connection, self.worker.id, list(standing), self._lease)
                    if standing
                    else []
                )
        except SQLAlchemyError as error:
            _log.warning("no heartbeat", error=str(error))
            return False
        self._watch.renewed_at = begun
        self._judge(standing, held)
        return True

    def _introduces(self) -> bool:
        try:
            with self._engine.connect() as connection:
                register_kinds(connection, self._registry)
                register_schedules(connection, self._registry)
                register_triggers(connection, self._registry)
        except SQLAlchemyError as error:
            _log.warning("kinds not registered", error=str(error))
            return False
        return True

    def _judge(self, standing: dict[tuple[UUID, int], Running], held: list[Held]) -> None:
        """Ends what the job has gone on without. What is just ending is missing for one beat only.

        An attempt that another one has ended says so; of a deleted job nothing is left. Who only
        claims or reports finds out by itself, unless its connection hangs.
        """
        lost = {(each.job_id, each.attempt) for each in held if each.is_lost}
        missing = lost | {
            (each.job_id, each.attempt)
            for each in held
            if not each.is_running
            and each.outcome is None
            and standing[each.job_id, each.attempt].is_claimed
        }
        for key in missing:
            if key in self._missing or (key in lost and standing[key].is_handling):
                self._watch.end(standing[key], LOST)
        self._missing = missing
        for each in held:
            if each.is_running and each.cancel_requested:
                self._watch.cancel(standing[each.job_id, each.attempt])

    def _sign_off(self) -> None:
        try:
            with self._engine.connect() as connection:
                workers.sign_off(connection, self.worker.id)
        except SQLAlchemyError as error:
            _log.warning("could not sign off", error=str(error))
