"""Settles deliveries whose jobs have ended without them, and forgets old ones.

A job that delivers may be cancelled, deleted, or crash for the third time; its delivery has failed
then, and can be replayed.
"""

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection

from jobs.ids import FIRST
from jobs.webhooks import deliveries
from worker.dispatcher.loop import Rest

EVERY = 15.0  # seconds from the end of one pass to the next
PAUSE = 0.2  # seconds between two slices of a pass
SLICE = 1000  # pending deliveries: a look at as many jobs, some ten milliseconds
FORGET_EVERY = 40  # passes: ten minutes
FORGOTTEN = 500  # a statement

_log = structlog.get_logger(__name__)


class Webhooks:
    """Goes through all pending deliveries, from the oldest on, again and again."""

    def __init__(self, retained: timedelta) -> None:
        self._retained = retained
        self._reached = FIRST
        self._passes = 0

    def turn(self, connection: Connection) -> Rest:
        reach = deliveries.settle(connection, self._reached, SLICE)
        if reach is not None:
            return self._go_on(reach)
        if self._passes % FORGET_EVERY == 0 and self._forget(connection) == FORGOTTEN:
            return self._go_on(self._reached)
        self._passes += 1
        self._reached = FIRST
        return Rest(EVERY, least=EVERY)

    def end(self, connection: Connection) -> None:
        pass

    def _go_on(self, reach: UUID) -> Rest:
        self._reached = reach
        return Rest(PAUSE, least=PAUSE)

    def _forget(self, connection: Connection) -> int:
        forgotten = deliveries.forget(connection, self._retained, FORGOTTEN)
        if forgotten:
            _log.info("old deliveries were forgotten", deliveries=forgotten)
        return forgotten
