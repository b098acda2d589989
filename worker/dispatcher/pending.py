"""Lets events that were published within other transactions meet their triggers."""

from collections.abc import Callable

from sqlalchemy import Connection

from jobs.bus.pending import is_any_pending, settle
from jobs.bus.publishing import tell
from jobs.hints import Hints
from jobs.registry import Registry
from worker.dispatcher.loop import Rest

LIMIT = 100  # events a transaction: with their jobs some tens of milliseconds of PostgreSQL
IDLE = 0.4  # seconds: an event that nobody has hinted at is late by no more
LEAST = 0.01  # seconds between two looks, however many hints come


class Pending:
    """Any number of dispatchers may do it: who has an event's row lets it meet its triggers."""

    def __init__(self, registry: Registry, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._registry, self._hints, self._wake_dispatch = registry, hints, wake_dispatch

    def turn(self, connection: Connection) -> Rest:
        if not is_any_pending(connection):
            return Rest(IDLE, least=LEAST, heeds_after=LEAST)
        with connection.begin():
            settled = settle(connection, self._registry, LIMIT)
        for project_id, published in settled.items():
            tell(self._hints, project_id, published)
            if any(each.jobs or each.deliveries for each in published):
                self._wake_dispatch()
        return Rest(IDLE, least=LEAST) if not settled else Rest(0)

    def end(self, connection: Connection) -> None:
        pass
