"""Finds bells that are lost one by one: popped by a dying worker, dropped, or never published."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from jobs import dispatch
from jobs.broker import Broker
from worker.dispatcher.loop import Rest

LOOKS = 3  # before a bell is old enough: every 5 s
IN_HAND = timedelta(seconds=1)  # from a bell's mark to its publishing, and from its pop to a claim

_log = structlog.get_logger(__name__)


class RingAgain:
    """Takes back the marks of bells that are old and do not hang in the broker any more.

    A bell that a busy worker has taken ahead cannot be told from a lost one, so it is left some
    time. But when a server was away, or this dispatcher follows one that died, some are lost in
    all likelihood: the first look on a new connection waits for those in hand alone.
    """

    def __init__(self, broker: Broker, lease: timedelta, wake_dispatch: Callable[[], None]) -> None:
        self._broker, self._wake_dispatch = broker, wake_dispatch
        self._after = lease / 2  # 15 s; within a window a bell is answered in less than one
        self._interval = (self._after / LOOKS).total_seconds()
        self._known: Connection | None = None

    def turn(self, connection: Connection) -> Rest:
        is_new = connection is not self._known
        after = min(IN_HAND, self._after) if is_new else self._after
        unanswered = dispatch.find_unanswered(connection, after)
        if unanswered.queues:
            hanging = self._broker.list_hanging(unanswered.queues)
            lost = dispatch.forget_lost(connection, unanswered, hanging)
            if lost:
                _log.warning("bells are rung again", bells=lost, queues=unanswered.queues)
                self._wake_dispatch()
        self._known = connection
        return Rest(self._interval, least=self._interval)

    def end(self, connection: Connection) -> None:
        pass
