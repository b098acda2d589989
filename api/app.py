"""The application: its parts, what every request passes, and the routes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

import kinds as built_in
from api import (
    batches,
    bulk,
    docs,
    errors,
    files,
    fleet,
    health,
    jobs,
    keys,
    kinds,
    lists,
    moves,
    projects,
    streams,
    trail,
)
from api.authentication import Authentication
from api.bus import consumers, events, streaming, triggers
from api.bus.following import record
from api.database import Database
from api.draining import Draining
from api.edge import Edge
from api.flow import explain, limits
from api.hub import Hub, Topic
from api.intake import IntakeWriter
from api.keepalive import Keepalive
from api.keyring import Keyring
from api.members import Members
from api.metrics import Metrics
from api.openapi import Application
from api.parts import Parts
from api.publishing import EventWriter
from api.quick import Quick
from api.rates import Rates
from api.readiness import Readiness
from api.recorded import recorded
from api.revocation import Revocation
from api.schedules import routes as schedules
from api.sockets import Sockets
from api.tail import Source, Tail
from api.ticks import slow_down
from api.webhooks import deliveries as webhook_deliveries
from api.webhooks import endpoints as webhook_endpoints
from api.ws import asyncapi, routes, tickets
from jobs.bus.stream import read_stream
from jobs.feed import read_feed
from jobs.files import FileStore
from jobs.hints import Hints
from jobs.ids import uuid7
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from jobs.trail.tallies import Tallies
from jobs.vault import Vault

#: The busiest first: routes are tried in their order.
ROUTERS = (
    jobs.router,
    lists.router,
    moves.router,
    batches.router,
    streams.router,
    tickets.router,
    routes.router,
    files.router,
    kinds.router,
    fleet.router,
    limits.router,
    explain.router,
    keys.router,
    webhook_endpoints.router,
    webhook_deliveries.router,
    schedules.router,
    bulk.router,
    projects.router,
    trail.router,
    streaming.router,
    events.router,
    consumers.router,
    triggers.router,
    health.router,
    docs.router,
    asyncapi.router,
)

_JOBS = Source(Topic.JOBS, read_feed, lambda fed: recorded(fed.event))
_BUS = Source(Topic.BUS, read_stream, record)

#: For pages of the origins that are allowed.
_CORS: dict[str, Any] = {
    "allow_methods": ["*"],
    "allow_headers": ["*"],
    "expose_headers": [
        *("ETag", "Idempotency-Replayed", "Link", "Location", "Preference-Applied"),
        *("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
    ],
    "max_age": 3600,  # seconds that a browser need not ask again
}
#: FastAPI's own, which is asked at each request whether anybody wants it; /metrics is ours.
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}


def create_app(settings: Settings) -> FastAPI:
    """The application; it connects to nothing before its lifespan begins.

    ImportError or ValueError when the settings name kinds that cannot be loaded.
    """
    registry = load_registry((*built_in.MODULES, *settings.kinds))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _parts(settings, registry) as parts:
            app.state.parts = parts
            yield

    app = Application(
        title="Lading",
        version="1",
        summary="Durable background jobs: accepted once, never lost, followed live.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    routes = [route for router in ROUTERS for route in router.routes]
    app.add_middleware(Quick, routes=routes)
    app.add_middleware(Authentication)
    app.add_middleware(Edge, max_file_bytes=settings.max_file_bytes)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.allowed_origins, **_CORS)
    errors.add_handlers(app)
    # Not included: that would cost a second search for each request, some 30 µs.
    app.router.routes.extend(routes)
    app.mount("/static", StaticFiles(directory=docs.STATIC))
    return app


@asynccontextmanager
async def _parts(settings: Settings, registry: Registry) -> AsyncIterator[Parts]:
    """Everything that a process has open; closed in the opposite order."""
    broker_url = settings.broker_url.get_secret_value()
    async with AsyncExitStack() as stack:
        draining = Draining()
        slow_down(draining)
        stack.enter_context(draining.on_signals())
        database = Database(settings)
        stack.callback(database.close)
        hints = Hints(broker_url, at_once=True)
        stack.push_async_callback(to_thread.run_sync, hints.close)
        intake = IntakeWriter(settings, hints)
        stack.push_async_callback(intake.close)
        event_writer = EventWriter(settings, hints, registry)
        stack.push_async_callback(event_writer.close)
        readiness = Readiness(settings, database)
        stack.push_async_callback(readiness.close)
        hub = await stack.enter_async_context(Hub(database, broker_url, draining))
        rates = Rates()
        revocation = await stack.enter_async_context(Revocation(database))
        yield Parts(
            settings=settings,
            registry=registry,
            database=database,
            hints=hints,
            intake=intake,
            event_writer=event_writer,
            keyring=Keyring(database),
            rates=rates,
            tallies=Tallies(),
            files=FileStore(settings.files_dir),
            metrics=Metrics(database, (kind.queue for kind in registry.values())),
            readiness=readiness,
            draining=draining,
            hub=hub,
            tail=await stack.enter_async_context(Tail(database, hub, draining, _JOBS)),
            bus_tail=await stack.enter_async_context(Tail(database, hub, draining, _BUS)),
            members=await stack.enter_async_context(Members(database, hub, hints)),
            revocation=revocation,
            sockets=Sockets(revocation, draining, rates, settings.sockets_per_key),
            keepalive=await stack.enter_async_context(Keepalive()),
            vault=Vault.of(settings),
            removals_id=uuid7(),
        )
