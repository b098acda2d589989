"""Sees that the broker has begun a new life, in which all bells are lost, and has them rung anew.

A wipe takes our epoch key away, a restart or a failover changes the run id. The row of
broker_epoch decides which dispatcher acts on it.
"""

import threading
from collections.abc import Callable
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from jobs import dispatch
from jobs.broker import Broker, Life
from jobs.dispatch import Epoch
from worker.dispatcher.loop import Rest

INTERVAL = 1.0  # seconds

_log = structlog.get_logger(__name__)


class EpochWatch:
    """Compares the broker's life with the one that the marks belong to."""

    def __init__(
        self, broker: Broker, has_begun: threading.Event, wake_dispatch: Callable[[], None]
    ) -> None:
        self._broker, self._has_begun, self._wake_dispatch = broker, has_begun, wake_dispatch
        self._known: Epoch | None = None

    def turn(self, connection: Connection) -> Rest:
        life = self._broker.life()
        if not _same(life, self._known):
            with connection.begin():
                known = dispatch.get_epoch(connection)
                if not _same(life, known):
                    known = self._begin(connection, known, Epoch(uuid4(), life.run_id))
            self._known = known
            self._has_begun.set()
            self._wake_dispatch()
        return Rest(INTERVAL, least=INTERVAL)

    def end(self, connection: Connection) -> None:
        pass

    def _begin(self, connection: Connection, old: Epoch, new: Epoch) -> Epoch:
        """The epoch that stands now, in which every mark is forgotten.

        The broker is asked while only the epoch's row is locked; no job waits for it.

        What may still hang there goes first, so that a window of bells remains after the marks are
        taken back, and not two.
        """
        if not dispatch.begin_epoch(connection, old, new):
            return dispatch.get_epoch(connection)  # another dispatcher's
        self._broker.purge(dispatch.list_rung_queues(connection))
        self._broker.begin_epoch(new.epoch)
        _log.info("a new broker: all bells are rung anew", bells=dispatch.forget_all(connection))
        return new


def _same(life: Life, epoch: Epoch | None) -> bool:
    return epoch is not None and (life.run_id, life.epoch) == (epoch.run_id, epoch.epoch)
