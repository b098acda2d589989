"""What one API process is made of; made when it starts, closed when it ends."""

from dataclasses import dataclass
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.database import Database
from api.draining import Draining
from api.hub import Hub
from api.intake import IntakeWriter
from api.keepalive import Keepalive
from api.keyring import Keyring, Principal
from api.members import Members
from api.metrics import Metrics
from api.publishing import EventWriter
from api.rates import Rates
from api.readiness import Readiness
from api.revocation import Revocation
from api.sockets import Sockets
from api.tail import Tail
from jobs.bus.stream import StreamedEvent
from jobs.feed import FeedEvent
from jobs.files import FileStore
from jobs.hints import Hints
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.trail.record import Actor
from jobs.trail.tallies import Tallies
from jobs.vault import Vault


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts, each made once."""

    settings: Settings
    registry: Registry
    database: Database
    hints: Hints
    intake: IntakeWriter  #: of submissions
    event_writer: EventWriter
    keyring: Keyring
    rates: Rates
    tallies: Tallies
    files: FileStore
    metrics: Metrics
    readiness: Readiness
    draining: Draining
    hub: Hub
    tail: Tail[FeedEvent]  #: of the feed of all jobs
    bus_tail: Tail[StreamedEvent]  #: of the events of the bus
    members: Members
    revocation: Revocation
    sockets: Sockets
    keepalive: Keepalive
    vault: Vault  #: for secrets at rest
    removals_id: UUID  #: the row of intake_total in which this process counts deleted jobs


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the process that serves this request or WebSocket."""
    return parts_in(connection.scope)


def parts_in(scope: Scope) -> Parts:
    """The same, of what ASGI says of it."""
    parts = scope["app"].state.parts
    assert isinstance(parts, Parts)
    return parts


def principal_of(connection: HTTPConnection) -> Principal:
    """Who asks: api/authentication.py has let the request in."""
    principal = connection.scope["state"]["principal"]
    assert isinstance(principal, Principal)
    return principal


def actor_of(connection: HTTPConnection) -> Actor:
    """Who asks, as the audit trail names them."""
    return acting(principal_of(connection), connection)


def acting(principal: Principal, connection: HTTPConnection) -> Actor:
    """The same of a WebSocket, which has authenticated itself."""
    return principal.actor(connection.client.host if connection.client else None)
