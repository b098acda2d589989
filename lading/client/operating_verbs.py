"""What can be asked of Lading by those who run it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from lading.client.asking import Asking, aware, place, said
from lading.client.calling import read
from lading.client.exchange import Answer, Call, Emit, Lost, Pause, Request, Send, Series
from lading.client.listing import JobFilters, filter_of
from lading.client.models import Health, Kind, Queue, Ticket, Worker
from lading.client.operating_models import (
    ApiKey,
    AuditEntry,
    BulkOperation,
    BulkPreview,
    Delivery,
    DeliveryStory,
    Endpoint,
    Project,
    Redelivery,
)
from lading.client.trying import Trying
from lading.client.verb import series, verb
from lading.durations import as_timedelta

EndpointRef = Endpoint | UUID | str
DeliveryRef = Delivery | UUID | str
BulkRef = BulkOperation | UUID | str
BulkOp = Literal["cancel", "retry", "delete", "reprioritise"]


class OperatingVerbs(Asking):
    """The fleet, webhooks, bulk operations, the audit trail, keys and projects."""

    @verb
    def kinds(self) -> Call[Sequence[Kind]]:
        """All kinds, by name."""
        return self._all(Kind, "/v1/kinds")

    @verb
    def kind(self, name: str) -> Call[Kind]:
        """The kind of that name."""
        return self._ask(Kind, place("kinds", name))

    @verb
    def queues(self) -> Call[Sequence[Queue]]:
        """All queues, by name."""
        return self._all(Queue, "/v1/queues")

    @verb
    def workers(self) -> Call[Sequence[Worker]]:
        """The workers that are alive."""
        return self._all(Worker, "/v1/workers")

    @verb
    def health(self) -> Call[Health]:
        """How the server is; that it is unavailable is no error here."""
        request, trying = Request("GET", "/readyz"), Trying(self._patience)
        while True:
            reply: Answer | Lost = yield Send(request)
            if isinstance(reply, Answer) and reply.media_type == "application/json":
                return read(Health, reply)
            yield Pause(trying.pause_after(request, reply))

    @verb
    def ticket(self, scopes: Iterable[str] | None = None) -> Call[str]:
        """For a page in a browser: it opens one WebSocket at /v1/ws, once, within 30 seconds.

        It may do what these scopes allow; left out, all of this client's that streams need.
        """
        document = None if scopes is None else {"scopes": sorted(scopes)}
        return (yield from self._tell(Ticket, "/v1/ws-tickets", document)).ticket

    @series
    def webhooks(self, *, limit: int | None = None) -> Series[Endpoint]:
        """The addresses that are told of events, newest first."""
        return self._pages(Endpoint, "/v1/webhooks", limit, {})

    @verb
    def webhook(self, webhook: EndpointRef) -> Call[Endpoint]:
        """The webhook, without its secrets."""
        return self._ask(Endpoint, place("webhooks", webhook))

    @verb
    def create_webhook(
        self, url: str, event_types: Iterable[str], *, description: str = "", enabled: bool = True
    ) -> Call[Endpoint]:
        """That address is told of these events from now on. Its `secret` is shown this once."""
        document = said(url=url, event_types=[*event_types])
        document |= {"description": description, "enabled": enabled}
        return self._make(Endpoint, "/v1/webhooks", document)

    @verb
    def update_webhook(
        self,
        webhook: EndpointRef,
        *,
        url: str | None = None,
        event_types: Iterable[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Call[Endpoint]:
        """What is named is so; `enabled` switches it on and off."""
        types = None if event_types is None else [*event_types]
        document = said(url=url, event_types=types, description=description, enabled=enabled)
        return self._tell(Endpoint, place("webhooks", webhook), document, "PATCH")

    @verb
    def rotate_webhook(
        self, webhook: EndpointRef, *, overlap: float | timedelta | None = None
    ) -> Call[Endpoint]:
        """It has a new `secret`, shown this once; those before it sign on for `overlap` seconds."""
        seconds = None if overlap is None else as_timedelta(overlap).total_seconds()
        return self._make(Endpoint, place("webhooks", webhook, "rotate"), said(overlap=seconds))

    @verb
    def delete_webhook(self, webhook: EndpointRef) -> Call[None]:
        """It is told of nothing more; its deliveries are gone."""
        return self._remove(place("webhooks", webhook))

    @verb
    def test_webhook(self, webhook: EndpointRef) -> Call[Delivery]:
        """It is sent an event of the type `webhook.test`."""
        return self._make(Delivery, place("webhooks", webhook, "test"))

    @series
    def deliveries(
        self, webhook: EndpointRef, *, state: str | None = None, limit: int | None = None
    ) -> Series[Delivery]:
        """Its deliveries, newest first."""
        return self._pages(
            Delivery, place("webhooks", webhook, "deliveries"), limit, {"state": state}
        )

    @verb
    def delivery(self, webhook: EndpointRef, delivery: DeliveryRef) -> Call[DeliveryStory]:
        """What is sent, and how each attempt went."""
        return self._ask(DeliveryStory, place("webhooks", webhook, "deliveries", delivery))

    @verb
    def redeliver(self, webhook: EndpointRef, delivery: DeliveryRef) -> Call[Delivery]:
        """It is delivered again, with the same `webhook-id`."""
        return self._make(Delivery, place("webhooks", webhook, "deliveries", delivery, "replay"))

    @verb
    def redeliver_failed(self, webhook: EndpointRef, since: datetime) -> Call[Redelivery]:
        """What has failed since then is delivered again, the oldest 1000 first."""
        document = {"since": aware("since", since)}
        return self._make(Redelivery, place("webhooks", webhook, "replay"), document)

    @verb
    def preview_bulk(self, op: BulkOp, filter: JobFilters) -> Call[BulkPreview]:  # noqa: A002
        """How many jobs the word would be said to now, and some of them; nothing is done."""
        return self._tell(BulkPreview, "/v1/bulk/preview", {"op": op, "filter": filter_of(filter)})

    @verb
    def start_bulk(
        self,
        op: BulkOp,
        filter: JobFilters,  # noqa: A002 - what it is called everywhere
        expected_count: int,
        *,
        rate: float | None = None,
        priority: int | None = None,
        reason: str | None = None,
    ) -> Call[BulkOperation]:
        """The word is said to exactly the jobs that fit now, `rate` of them a second.

        Conflict: they are not `expected_count`, the preview's, any more; then nothing is done.
        """
        document = {"op": op, "filter": filter_of(filter), "expected_count": expected_count}
        document |= said(rate=rate, priority=priority, reason=reason)
        return self._make(BulkOperation, "/v1/bulk", document)

    @verb
    def bulk_operation(self, operation: BulkRef) -> Call[BulkOperation]:
        """How far the operation is."""
        return self._ask(BulkOperation, place("bulk", operation))

    @series
    def bulk_operations(self, *, limit: int | None = None) -> Series[BulkOperation]:
        """The operations, newest first."""
        return self._pages(BulkOperation, "/v1/bulk", limit, {})

    @series
    def watch_bulk(self, operation: BulkRef, *, interval: float = 0.5) -> Series[BulkOperation]:
        """The operation as it is now, each `interval` seconds, until it does not run any more."""
        while True:
            found = yield from self._ask(BulkOperation, place("bulk", operation))
            yield Emit(found)
            if found.state != "running":
                return
            yield Pause(interval)

    @verb
    def stop_bulk(self, operation: BulkRef) -> Call[BulkOperation]:
        """No further job has its turn. What is done stays done."""
        return self._tell(BulkOperation, place("bulk", operation, "stop"))

    @series
    def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        target: object = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Series[AuditEntry]:
        """Who did what, newest first; `actor` is a key's id, `target` an id or a name."""
        query = {"actor": actor, "action": action, "target": target}
        return self._pages(
            AuditEntry, "/v1/audit", limit, {**query, "since": since, "until": until}
        )

    @verb
    def keys(self) -> Call[Sequence[ApiKey]]:
        """The project's keys, newest first, without their secrets."""
        return self._all(ApiKey, "/v1/keys")

    @verb
    def create_key(
        self,
        name: str,
        *,
        scopes: Iterable[str] | None = None,
        role: Literal["reader", "submitter", "operator", "admin"] | None = None,
        kinds: Iterable[str] | None = None,
        expires_at: datetime | None = None,
        rate: tuple[float, int] | None = None,
        project: str | None = None,
    ) -> Call[ApiKey]:
        """A key, of this or another project, whose `key` is shown this once.

        `rate` is requests a second, and so many at once. It may do no more than the client's own.
        """
        document: dict[str, Any] = said(role=role, expires_at=expires_at)
        document |= {"name": name}
        for member, given in (("scopes", scopes), ("kinds", kinds)):
            if given is not None:
                document[member] = [*given]
        if rate is not None:
            document["rate"] = {"per_second": rate[0], "burst": rate[1]}
        path = "/v1/keys" if project is None else place("projects", project, "keys")
        return self._make(ApiKey, path, document)

    @verb
    def delete_key(self, key: ApiKey | str) -> Call[None]:
        """Within five seconds it opens nothing any more."""
        return self._remove(place("keys", key))

    @series
    def projects(self, *, limit: int | None = None) -> Series[Project]:
        """The projects that the key may see, by id."""
        return self._pages(Project, "/v1/projects", limit, {})

    @verb
    def project(self, project: Project | str) -> Call[Project]:
        """The project."""
        return self._ask(Project, place("projects", project))

    @verb
    def create_project(self, id: str, name: str | None = None) -> Call[Project]:  # noqa: A002
        """A project, which has no key yet. Conflict: there is one."""
        return self._make(Project, "/v1/projects", {"id": id, **said(name=name)})
