"""Keeps the accounts: sees all day long that every accepted job is there, alive or truly ended.

The walks through the table take at most a fiftieth of one core, of its own and PostgreSQL's
together: a turn of theirs that took long is followed by a pause fifty times as long.
"""

import time
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from jobs import accounts
from jobs.accounts import Walk
from worker.dispatcher.loop import Rest

LOOKS_PER_LEASE = 6  # every 5 s with a lease of 30 s
LOOKS_PER_SETTLEMENT = 12  # a minute
SHARE = 1 / 50  # of a core
SLICE = 0.1  # seconds that a slice may take, before the next one is smaller
SMALLEST = 500  # of its size: one of a thousandth of a second

_log = structlog.get_logger(__name__)


class Accounts:
    """Each turn: what is overdue, the newest balance, and mostly some slices of the walks."""

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease
        self._interval = (lease / LOOKS_PER_LEASE).total_seconds()
        self._sizes = {walk.name: walk.most for walk in accounts.WALKS}
        self._known: dict[str, int] = {}
        self._looks = 0
        self._walks_at = time.monotonic()

    def turn(self, connection: Connection) -> Rest:
        with connection.begin():
            is_quiet = accounts.rest_quietly(connection, self._lease)
        if is_quiet:
            self._tell({})
        else:
            self._look(connection)
        if self._looks % LOOKS_PER_SETTLEMENT == 0:
            with connection.begin():
                accounts.settle(connection)
        self._looks += 1
        return Rest(self._interval, least=self._interval)

    def end(self, connection: Connection) -> None:
        pass

    def _look(self, connection: Connection) -> None:
        with connection.begin():
            accounts.check_overdue(connection, self._lease)
        with connection.begin():
            accounts.check_newest(connection)
        if time.monotonic() >= self._walks_at:
            self._walk(connection)
        with connection.begin():
            self._tell(accounts.read_standing(connection).unaccounted)

    def _walk(self, connection: Connection) -> None:
        began = time.monotonic()
        for walk in accounts.WALKS:
            self._go_on(connection, walk)
        took = time.monotonic() - began
        self._walks_at = began + took / SHARE

    def _go_on(self, connection: Connection, walk: Walk) -> None:
        """At least one slice, and more while its part of the turn lasts."""
        end = time.monotonic() + self._interval * SHARE / len(accounts.WALKS)
        while self._slice(connection, walk) and time.monotonic() < end:
            pass

    def _slice(self, connection: Connection, walk: Walk) -> bool:
        size, began = self._sizes[walk.name], time.monotonic()
        self._sizes[walk.name] = max(SMALLEST, size // 2)  # if it fails, it may have been too large
        with connection.begin():
            has_more = accounts.advance(connection, walk, size)
        if time.monotonic() - began < SLICE:
            self._sizes[walk.name] = min(walk.most, size * 2)
        return has_more

    def _tell(self, unaccounted: dict[str, int]) -> None:
        """A line in the log when it has changed."""
        found = {reason: jobs for reason, jobs in unaccounted.items() if jobs}
        if found != self._known:
            say = _log.error if found else _log.info
            say("jobs unaccounted for", jobs=sum(found.values()), **found)
            self._known = found
