"""Sees that the broker has begun a new life, and has the bells rung anew that went with the old.

A wipe takes our epoch key away, a restart or a failover changes the run id. The row of
broker_epoch decides which dispatcher acts on it.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
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
            # Who has just begun one is about to leave its mark in the broker.
            is_anothers = self._known not in (None, known)
            if not is_anothers and not _same(life, known):
                known = self._begin(connection, known, Epoch(uuid4(), life.run_id))
            self._known = known
            self._has_begun.set()
            self._wake_dispatch()
        return Rest(INTERVAL, least=INTERVAL)

    def end(self, connection: Connection) -> None:
        pass

    def _begin(self, connection: Connection, old: Epoch, new: Epoch) -> Epoch:
        """The epoch that stands now. Marks are forgotten where no bell has outlived the old one.

        The broker is asked before the transaction and told after it. Who is stopped in between
        leaves a broker without a mark, with which the next look begins another epoch.
        """
        with connection.begin():
            unanswered = dispatch.find_unanswered(connection, timedelta())
        hanging = self._broker.list_hanging(unanswered.queues)
        with connection.begin():
            if not dispatch.begin_epoch(connection, old, new):
                return dispatch.get_epoch(connection)  # another dispatcher's
            lost = dispatch.forget_lost(connection, unanswered, hanging)
        self._broker.begin_epoch(new.epoch)
        _log.info("a new broker: lost bells are rung anew", bells=lost, hanging=len(hanging))
        return new


def _same(life: Life, epoch: Epoch | None) -> bool:
    return epoch is not None and (life.run_id, life.epoch) == (epoch.run_id, epoch.epoch)
