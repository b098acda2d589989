"""Publishing events, and reading those that were."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from api.bodies import Moment, Text
from api.bus import answers
from api.bus.answers import event_document
from api.bus.binding import BATCH, PLAIN, STRUCTURED, read_events
from api.documents import json_response
from api.errors import parameter_flaw
from api.keyring import Principal
from api.paging import Page, find_place
from api.parts import Parts, parts_of, principal_of
from api.promises import IDEMPOTENCY_KEY, answer, problems
from api.publishing import Publication
from api.strict import StrictRoute
from jobs.bus.envelope import NewEvent
from jobs.bus.publishing import MOST_IN_BATCH, Published
from jobs.bus.queries import EventFilter, get_event, page_events
from jobs.trail.tallies import Tally
from lading.patterns import WRONG, is_pattern

router = APIRouter(route_class=StrictRoute, tags=["events"])

PUBLISHED = "event.publish"  # the audit trail's word
_PLAIN = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "minLength": 1, "maxLength": 255},
        "data": {},
        **{
            name: {"type": "string", "minLength": 1}
            for name in ("id", "source", "subject", "time", "dataschema", "datacontenttype")
        },
    },
    "examples": [{"type": "user.created", "data": {"email": "ada@example.com", "name": "Ada"}}],
}
_EVENT = {"$ref": "#/components/schemas/CloudEvent"}
_BODY: dict[str, Any] = {
    "required": True,
    "description": "A CloudEvent 1.0, structured, or in the binary form (any other media type, with"
    f" `ce-` headers), or up to {MOST_IN_BATCH} of them; or the plain form, whose `id`, `source`"
    " and `time` are filled in",
    "content": {
        PLAIN: {"schema": _PLAIN},
        STRUCTURED: {"schema": _EVENT},
        BATCH: {"schema": {"type": "array", "maxItems": MOST_IN_BATCH, "items": _EVENT}},
    },
}
_KEY = {
    **IDEMPOTENCY_KEY,
    "description": "The event's id, where an event of the plain form names none",
}


class EventQuery(Page):
    """Which events, and how many of them."""

    type: Text | None = Field(
        default=None, description="`user.created`, or `user.*` for all that begin so"
    )
    source: Text | None = Field(default=None, description="Of this source")
    event_id: Text | None = Field(default=None, description="Of this publisher's id")
    received_after: Moment | None = Field(default=None, description="Younger than this")
    received_before: Moment | None = Field(default=None, description="Older than this")

    def filter(self) -> EventFilter:
        """The same as the domain takes it. Problem 422."""
        if self.type and not is_pattern(self.type):
            raise parameter_flaw("type", WRONG)
        return EventFilter(
            pattern=self.type or None,
            source=self.source or None,
            event_id=self.event_id or None,
            received_after=self.received_after,
            received_before=self.received_before,
        )


@router.post(
    "/v1/events",
    status_code=202,
    responses={
        202: answer(
            "Accepted, with the jobs that its triggers have made; of a batch: an EventBatch",
            "?Location",
            model=answers.PublishedEvent | answers.EventBatch,
        ),
        200: answer(
            "It, or each of the batch, had been accepted before: the first one",
            "?Location",
            model=answers.PublishedEvent | answers.EventBatch,
        ),
        **problems(
            "bad-request",
            "idempotency-key-invalid",
            "payload-too-large",
            "unsupported-media-type",
            "validation-failed",
        ),
    },
    openapi_extra={"requestBody": _BODY, "parameters": [_KEY]},
)
async def publish_event(request: Request) -> Response:
    """Publish an event: the jobs that it makes and itself are accepted together.

    The same `source` and `id` again is the same event: 200, and nothing is made twice.
    """
    parts, principal = parts_of(request), principal_of(request)
    reading = read_events(request.headers, await request.body(), principal.project_id)
    published = await publish_all(parts, principal, reading.events)
    status = 202 if any(each.is_new for each in published) else 200
    documents = [event_document(each.event) for each in published]
    if reading.is_batch:
        known = [number for number, each in enumerate(published) if not each.is_new]
        return json_response({"items": documents, "duplicates": known}, status)
    return json_response(documents[0], status, {"Location": documents[0]["links"]["self"]})


async def publish_all(
    parts: Parts, principal: Principal, events: Sequence[NewEvent]
) -> list[Published]:
    """They are accepted, and whoever waits for their jobs knows.

    DatabaseUnavailable, Problem `overloaded`.
    """
    actor, key_id = principal.actor(), principal.key_id

    def tally(first_id: UUID, count: int) -> Tally:
        return parts.tallies.tally(key_id, PUBLISHED, lambda: actor, first_id, count)

    if not events:
        return []
    publication = Publication(principal.project_id, events, tally)
    published = await parts.event_writer.submit(publication)
    parts.metrics.count_published(published)
    return published


@router.get(
    "/v1/events",
    responses={
        200: answer("A page", "Link", model=answers.EventPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_events(request: Request, asked: Annotated[EventQuery, Query()]) -> Response:
    """List events, newest first, with the jobs that each has made."""
    parts, principal = parts_of(request), principal_of(request)
    place = find_place(request, asked)
    events, last_id = await parts.database.run(
        page_events,
        principal.project_id,
        asked.filter(),
        limit=place.limit,
        before=place.before,
    )
    return place.answer([event_document(each) for each in events], last_id)


@router.get(
    "/v1/events/{event_id}",
    responses={
        200: answer("The event", model=answers.PublishedEvent),
        **problems("event-not-found"),
    },
)
async def read_event(
    request: Request, event_id: Annotated[UUID, Path(description="The event's id here")]
) -> Response:
    """Read an event, and what came of it."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    return json_response(event_document(await parts.database.run(get_event, project_id, event_id)))
