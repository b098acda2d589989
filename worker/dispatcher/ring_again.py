"""Finds bells that the broker has lost, one by one: popped by a dying worker, never published."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from jobs import dispatch
from jobs.broker import Broker
from worker.dispatcher.loop import Rest

LOOKS = 3  # before a bell is old enough: every 5 s

_log = structlog.get_logger(__name__)


class RingAgain:
    """Takes back the marks of bells that are old and cannot all hang in the broker any more."""

    def __init__(self, broker: Broker, lease: timedelta, wake_dispatch: Callable[[], None]) -> None:
        self._broker, self._wake_dispatch = broker, wake_dispatch
        self._after = lease / 2  # 15 s; within a window a bell is answered in less than one

    def turn(self, connection: Connection) -> Rest:
        for queue in dispatch.list_unanswered(connection, self._after):
            length = self._broker.queue_length(queue)
            lost = dispatch.forget_lost(connection, queue, length, self._after)
            if lost:
                _log.warning("bells are rung again", bells=lost, queue=queue)
                self._wake_dispatch()
        wait = self._after.total_seconds() / LOOKS
        return Rest(wait, least=wait)

    def end(self, connection: Connection) -> None:
        pass
