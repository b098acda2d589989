"""The events of the bus, as they are published: as a stream, else by asking; whatever breaks.

Every stream begins behind a page that was asked for: so what was missed comes in large pieces, it
is the page's refusal that tells whether to go on, and a proxy that refuses streams costs latency.
"""

import json
import random
from collections import deque
from uuid import UUID

from lading.client.bus_models import Consumer, StreamedEvent, StreamPage
from lading.client.calling import call, read
from lading.client.errors import UnexpectedAnswer
from lading.client.exchange import (
    EVENT_STREAM,
    Answer,
    Call,
    Emit,
    Hear,
    Listen,
    Message,
    Pause,
    Request,
    Series,
)
from lading.client.following import back_after

POLL = 0.5  # seconds between two questions where streams do not come through
MOST_DEAF = 3  # streams in a row that said nothing, though pages were answered: there will be none
MOST_KNOWN = 1000  # events: what comes again after a reconnect is fewer
_PATH = "/v1/events/stream"


class BusFollowing:
    """One follower's place among the events of some types. Each comes once, but see `consumer`."""

    def __init__(
        self, types: tuple[str, ...], after: str | None, consumer: str | None, patience: float
    ) -> None:
        """`patience`: seconds without an answer from the server, after which it gives up."""
        self._types, self._position, self._consumer = types, after, consumer
        self._patience = patience
        self._member: UUID | None = None
        self._known: deque[UUID] = deque(maxlen=MOST_KNOWN)
        self._deaf = 0

    def events(self) -> Series[StreamedEvent]:
        """Without end. Raises what `call` raises; Conflict: another follows under the name now."""
        while True:
            page = yield from self._page()
            for event in page.items:
                yield from self._emit(event)
            self._position = page.position
            if page.items:
                yield from self._acknowledge(page.position)
            elif self._deaf < MOST_DEAF:
                yield from self._stream()
            else:
                yield Pause(POLL)

    def _page(self) -> Call[StreamPage]:
        joins = self._consumer if self._member is None else None  # to join again would be to fight
        answer = yield from call(self._request(consumer=joins), self._patience)
        page = read(StreamPage, answer)
        self._member = self._member or page.member
        return page

    def _stream(self) -> Series[StreamedEvent]:
        """One stream, as far as it goes."""
        reply = yield Listen(self._request({"Accept": EVENT_STREAM, "Cache-Control": "no-store"}))
        self._deaf += 1
        if not (isinstance(reply, Answer) and reply.media_type == EVENT_STREAM):
            yield Pause(POLL)
            return
        while True:
            message = yield Hear()
            if not isinstance(message, Message):
                yield Pause(random.random() * POLL)
                return
            self._deaf = 0
            if message.type == "bye":
                yield Pause(back_after(message))
                return
            if message.type == "message" and message.data:
                yield from self._emit(_event(message))
                yield from self._acknowledge(message.id)
            self._position = message.id or self._position

    def _emit(self, event: StreamedEvent) -> Series[StreamedEvent]:
        if event.id not in self._known:
            self._known.append(event.id)
            yield Emit(event)

    def _acknowledge(self, position: str) -> Call[None]:
        """All up to there is done with: the caller has asked for more."""
        if self._consumer is None:
            return
        path = f"/v1/consumers/{self._consumer}/ack"
        body = json.dumps({"position": position, "member": str(self._member)}).encode()
        request = Request("POST", path, body=body, headers={"Content-Type": "application/json"})
        read(Consumer, (yield from call(request, self._patience)))

    def _request(
        self, headers: dict[str, str] | None = None, consumer: str | None = None
    ) -> Request:
        said = (("types", ",".join(self._types)), ("after", self._position), ("consumer", consumer))
        query = tuple((name, value) for name, value in said if value)
        return Request("GET", _PATH, query, headers=headers or {})


def _event(message: Message) -> StreamedEvent:
    try:
        return StreamedEvent.model_validate_json(message.data)
    except ValueError as error:
        raise UnexpectedAnswer(f"no event of the bus: {message.data[:200]}") from error
