"""Settles deliveries whose jobs ended without them, forgets old ones, tells who was switched off.

A job that delivers may be cancelled, deleted, or crash for the third time; its delivery has failed
then, and can be replayed. That an endpoint was switched off is an event, `webhook.disabled`.
"""

from datetime import timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection

from jobs.bus.envelope import NewEvent, stored
from jobs.bus.publishing import publish
from jobs.ids import FIRST
from jobs.registry import Registry
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.endpoints import SwitchedOff
from worker.dispatcher.loop import Rest

EVERY = 10.0  # seconds from the end of one pass to the next
PAUSE = 0.2  # seconds between two slices of a pass
SLICE = 1000  # pending deliveries: a look at as many jobs, some ten milliseconds
FORGET_EVERY = 60  # passes: ten minutes
FORGOTTEN = 500  # a statement
TOLD = 20  # endpoints a pass; they are switched off seldom

_log = structlog.get_logger(__name__)


class Webhooks:
    """Goes through all pending deliveries, from the oldest on, again and again."""

    def __init__(self, registry: Registry, retained: timedelta) -> None:
        self._registry, self._retained = registry, retained
        self._reached = FIRST
        self._passes = 0

    def turn(self, connection: Connection) -> Rest:
        with connection.begin():
            reach = deliveries.settle(connection, self._reached, SLICE)
        if reach is not None:
            return self._go_on(reach)
        if self._passes % FORGET_EVERY == 0 and self._forget(connection) == FORGOTTEN:
            return self._go_on(self._reached)
        self._tell(connection)
        self._passes += 1
        self._reached = FIRST
        return Rest(EVERY, least=EVERY)

    def end(self, connection: Connection) -> None:
        pass

    def _go_on(self, reach: UUID) -> Rest:
        self._reached = reach
        return Rest(PAUSE, least=PAUSE)

    def _forget(self, connection: Connection) -> int:
        with connection.begin():
            forgotten = deliveries.forget(connection, self._retained, FORGOTTEN)
        if forgotten:
            _log.info("old deliveries were forgotten", deliveries=forgotten)
        return forgotten

    def _tell(self, connection: Connection) -> None:
        """That they are switched off, and that it was told, are one transaction."""
        with connection.begin():
            for off in endpoints.take_switched_off(connection, TOLD):
                _log.warning("webhook switched off", webhook_id=str(off.id), reason=off.reason)
                publish(connection, self._registry, off.project_id, [_event(off)])


def _event(off: SwitchedOff) -> NewEvent:
    at = off.at.isoformat().replace("+00:00", "Z")
    return stored(
        {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": f"/lading/webhooks/{off.id}",
            "type": "webhook.disabled",
            "subject": str(off.id),
            "time": at,
            "datacontenttype": "application/json",
            "data": {"webhook_id": str(off.id), "url": off.url, "reason": off.reason},
        }
    )
