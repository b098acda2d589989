"""Gives jobs whose holder let its lease run out to the next attempt."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, func, select

from jobs import lifecycle
from jobs.hints import Hints
from jobs.lifecycle import Moved, look_for_lost
from worker.dispatcher.loop import Rest

SWEEPS_PER_LEASE = 6  # every 5 s with a lease of 30 s
LIMIT = 200  # jobs a sweep: a herd comes back in portions
JITTER = 0.2  # of the interval, so that several dispatchers do not sweep in step
MAY_MISS = 3  # sweeps; a longer gap between two counts as an interruption

_log = structlog.get_logger(__name__)


class Rescue:
    """Sweeps in earnest after a lease without interruption.

    A dispatcher that has been away, or cut off from the database, or frozen with its machine, has
    to assume that the workers were too, and leaves them one lease to renew what they hold.
    """

    def __init__(self, lease: timedelta, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._lease, self._hints, self._wake_dispatch = lease, hints, wake_dispatch
        self._interval = lease / SWEEPS_PER_LEASE
        self._since: datetime | None = None  #: of the first sweep without interruption
        self._newest: datetime | None = None

    def turn(self, connection: Connection) -> Rest:
        now, is_any_out = look_for_lost(connection)
        moved = self._rescue(connection) if self._may_rescue(now) and is_any_out else []
        if moved:
            _log.warning("leases ran out", jobs=len(moved))
            self._hints.tell(moved)
            self._wake_dispatch()
        interval = self._interval.total_seconds()
        wait = interval * random.uniform(1 - JITTER, 1 + JITTER)
        return Rest(wait, least=wait)

    def end(self, connection: Connection) -> None:
        pass

    def _rescue(self, connection: Connection) -> list[Moved]:
        # One transaction: who is frozen in it has lost it when it thaws, and the permission with it
        with connection.begin():
            if not self._may_rescue(connection.execute(_NOW).scalar_one()):
                return []
            return lifecycle.rescue(connection, LIMIT, self._lease)

    def _may_rescue(self, now: datetime) -> bool:
        """By the database's clock, which goes on while a machine sleeps."""
        is_interrupted = self._newest is None or now - self._newest > MAY_MISS * self._interval
        if is_interrupted or self._since is None:
            self._since = now
        self._newest = now
        return now - self._since >= self._lease


_NOW = select(func.clock_timestamp())
