"""Finds bells that are lost one by one: popped by a dying worker, dropped, or never published.

And those that are not lost, but have hung in vain, since others of higher priority went on coming.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from jobs import dispatch
from jobs.broker import Broker
from worker.dispatcher.loop import Rest

INTERVAL = 1.0  # seconds
# A popped bell becomes a claim within milliseconds, or its worker has died with it; only one that
# a busy thread worker has taken ahead is in good hands for longer. That one is rung a second time,
# and not a third: from now on one hangs.
IN_HAND = timedelta(seconds=3)
# A minute makes up for one priority (jobs.picks.STEP): rung anew, it is heard that much earlier.
PASSED_OVER = timedelta(seconds=60)

_log = structlog.get_logger(__name__)


class RingAgain:
    """Takes back the marks of bells that are old and do not hang in the broker any more."""

    def __init__(self, broker: Broker, wake_dispatch: Callable[[], None]) -> None:
        self._broker, self._wake_dispatch = broker, wake_dispatch

    def turn(self, connection: Connection) -> Rest:
        unanswered = dispatch.find_unanswered(connection, IN_HAND)
        if unanswered.queues:
            if dispatch.forget_passed_over(connection, PASSED_OVER):
                self._wake_dispatch()
            hanging = self._broker.list_hanging(unanswered.queues)
            lost = dispatch.forget_lost(connection, unanswered, hanging)
            if lost:
                _log.warning("bells are rung again", bells=lost, queues=unanswered.queues)
                self._wake_dispatch()
        return Rest(INTERVAL, least=INTERVAL, heeds_after=INTERVAL)

    def end(self, connection: Connection) -> None:
        pass
