"""Publishes what jobs have come to as events, where somebody waits for that."""

from collections.abc import Callable

from sqlalchemy import Connection

from jobs.bus.facts import publish_facts
from jobs.bus.publishing import tell
from jobs.hints import Hints
from jobs.registry import Registry
from worker.dispatcher.loop import Rest

LIMIT = 200  # events a transaction: with their jobs some tens of milliseconds of PostgreSQL
AWAITED = 0.2  # seconds between looks while somebody waits: a fact is late by no more
IDLE = 1.0  # seconds; nobody waits, or another dispatcher does it


class Facts:
    """One of the dispatchers at a time; the others find its lock."""

    def __init__(self, registry: Registry, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._registry, self._hints, self._wake_dispatch = registry, hints, wake_dispatch

    def turn(self, connection: Connection) -> Rest:
        with connection.begin():
            turn = publish_facts(connection, self._registry, LIMIT)
        if turn is None or not turn.is_awaited:
            return Rest(IDLE, least=IDLE, heeds_after=IDLE)
        for project_id, published in turn.published.items():
            tell(self._hints, project_id, published)
            if any(each.jobs or each.deliveries for each in published):
                self._wake_dispatch()
        return Rest(AWAITED, least=AWAITED) if turn.is_last else Rest(0)

    def end(self, connection: Connection) -> None:
        pass
