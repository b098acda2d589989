"""Following the events of the bus, and what is acknowledged of them."""

from collections.abc import Sequence
from uuid import UUID

from lading.client.asking import Asking, place
from lading.client.bus_models import Consumer, StreamedEvent, StreamPage
from lading.client.exchange import Call, Series
from lading.client.following_bus import BusFollowing
from lading.client.verb import series, verb


class EventVerbs(Asking):
    """Events, one after the other, and the consumers whose positions the server keeps."""

    @series
    def follow_events(
        self,
        *types: str,
        after: str | None = None,
        consumer: str | None = None,
        patience: float = 300.0,
    ) -> Series[StreamedEvent]:
        """The events of these types (patterns; none: all) as they are published, without end.

        From `after` on, a position, or "oldest" for all that is kept; else from now. It reconnects
        and goes on where it was, until the server is not heard of for `patience` seconds
        (Unreachable). With `consumer` it goes on where that was acknowledged, which happens when
        the next event is asked for, of those that waited after a page of them: at least once;
        `after` is where a new one begins. Conflict: another member follows under the name now.
        """
        return BusFollowing(types, after, consumer, patience).events()

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
