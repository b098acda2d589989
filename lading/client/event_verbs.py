"""Following the events of the bus, and what is acknowledged of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from lading.client.asking import Asking, place
from lading.client.exchange import Call, Emit, Pause, Series
from lading.client.models import Answered
from lading.client.verb import series, verb

POLL = 0.5  # seconds between two questions where there was nothing new


class StreamedEvent(Answered):
    """An event as it was accepted."""

    id: UUID  #: its address at the server; the publisher's id is in `event`
    event: dict[str, Any]  #: the CloudEvent
    received_at: datetime
    depth: int
    error: str | None = None
    job_id: UUID | None = None  #: whose handler published it


class StreamPage(Answered):
    """The next events, and the position behind them."""

    items: list[StreamedEvent]
    position: str
    member: UUID | None = None


class Consumer(Answered):
    """A name under which somebody follows events."""

    name: str
    types: list[str]
    position: str  #: acknowledged
    member: UUID
    joined_at: datetime
    acknowledged_at: datetime | None = None
    created_at: datetime


class EventVerbs(Asking):
    """Events, one after the other, and the consumers whose positions the server keeps."""

    @series
    def follow_events(
        self, *types: str, after: str | None = None, consumer: str | None = None
    ) -> Series[StreamedEvent]:
        """The events of these types (patterns; none: all) as they are published, without end.

        From `after` on, a position, or "oldest" for all that is kept; else from now. With
        `consumer` it goes on where that was acknowledged, which happens when the events of a page
        are done with, and the next is asked for: at least once; `after` is where a new one begins.
        Conflict: another member follows under the name now.
        """
        query = {"types": ",".join(types) or None, "consumer": consumer}
        page = yield from self._ask(StreamPage, "/v1/events/stream", after=after, **query)
        member = page.member
        query["consumer"] = None  # joined once: to ask again in its name would take the place back
        while True:
            for event in page.items:
                yield Emit(event)
            if consumer is not None and member is not None and page.items:
                yield from self._acknowledge(consumer, page.position, member)
            if not page.items:
                yield Pause(POLL)
            page = yield from self._ask(
                StreamPage, "/v1/events/stream", after=page.position, **query
            )

    @verb
    def events_after(
        self, after: str, types: Sequence[str] = (), *, consumer: str | None = None
    ) -> Call[StreamPage]:
        """The next events behind a position, which may be "oldest"; none: nothing is new.

        Of a known consumer, those behind what was acknowledged; the page's `member` is the newest.
        """
        asked = {"types": ",".join(types) or None, "consumer": consumer}
        return self._ask(StreamPage, "/v1/events/stream", after=after, **asked)

    @series
    def consumers(self, *, limit: int | None = None) -> Series[Consumer]:
        """The names under which events are followed, newest first."""
        return self._pages(Consumer, "/v1/consumers", limit, {})

    @verb
    def consumer(self, name: str) -> Call[Consumer]:
        """How far the consumer has come."""
        return self._ask(Consumer, place("consumers", name))

    @verb
    def acknowledge(self, name: str, position: str, member: UUID | str) -> Call[Consumer]:
        """Who follows under the name next begins there. Conflict: another member has it."""
        return self._acknowledge(name, position, member)

    @verb
    def delete_consumer(self, name: str) -> Call[None]:
        """The name and its position are forgotten."""
        return self._remove(place("consumers", name))

    def _acknowledge(self, name: str, position: str, member: UUID | str) -> Call[Consumer]:
        document = {"position": position, "member": str(member)}
        return self._tell(Consumer, place("consumers", name, "ack"), document)
