"""The events of the bus as Server-Sent Events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import format_sse_event
from pydantic_core import from_json

from api.bus import answers
from api.bus.following import MOST_TYPES, OLDEST, Asked, ConsumerName, Followed, following
from api.documents import json_response
from api.errors import parameter_flaw
from api.hub import DATABASE_PAUSE
from api.parts import actor_of, parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.revocation import Standing
from api.sse import BYE, KEEP_ALIVE, RECONNECT_AFTER, EventStream
from api.streams import SSE, wants_stream
from api.strict import StrictRoute
from api.tail import Marked
from jobs.errors import ConsumerTaken, DatabaseUnavailable
from jobs.feed import MOST_OF_POSITION, Position
from jobs.keys.scopes import Scope
from lading.patterns import LENGTH

LEFT_FOR = 60_000  # milliseconds: two members that come back at once would take turns for ever

router = APIRouter(route_class=StrictRoute, tags=["events"])

Types = Annotated[
    str,
    Query(
        max_length=MOST_TYPES * (LENGTH + 1),
        description="Patterns of types, separated by commas; all, if not given",
        examples=["user.*,order.placed"],
    ),
]
After = Annotated[
    str | None,
    Query(max_length=MOST_OF_POSITION, description=f"A position, or `{OLDEST}`; else from now on"),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=MOST_OF_POSITION,
        description="The same, from an EventSource: it goes first. With `consumer` it says nothing",
    ),
]
_ANSWER = answer(
    "As JSON: the next of the events that there are now, and the position behind them. As a stream:"
    " `id` is the position, `data` a StreamedEvent. Beside them, by their `event`: `subscribed`"
    " {position, consumer, member} comes first; `reset`, right after it, says that the position is"
    " of another life of the database, and that events go on from now; `taken`, that another member"
    " follows under the name now, and `deleted`, that the consumer was: do not come back; `bye`,"
    " that the server is about to end: come back, and resume.",
    model=answers.StreamPage,
)


@router.get(
    "/v1/events/stream",
    response_class=Response,
    responses={
        200: {
            **_ANSWER,
            "content": {
                SSE: {"schema": {"type": "string"}, "example": 'id: 7e21…\ndata: {"id": …}\n\n'}
            },
        },
        **problems("validation-failed", "database-unavailable", "draining"),
    },
)
async def stream_events(
    request: Request,
    types: Types = "",
    after: After = None,
    consumer: Annotated[ConsumerName | None, Query()] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Read events of these types; with `Accept: text/event-stream` follow them as they come.

    Resumable without a hole: `after` is the position that came with the last one.
    With `consumer` (which needs the scope `events:consume`) it goes on where that was acknowledged;
    `after` is where a new one begins. Who followed under the name before is sent away.
    """
    parts, principal = parts_of(request), principal_of(request)
    if consumer is not None:
        principal.require(Scope.EVENTS_CONSUME)
    if parts.draining.is_set:
        raise Problem("draining", "Come back in a moment.", headers={"Retry-After": "1"})
    # An EventSource comes back with the last position that it saw, done with or not.
    begin = after if consumer is not None else last_event_id or after
    asked = Asked([each for each in types.split(",") if each], consumer, begin)
    async with AsyncExitStack() as stack:
        followed = await stack.enter_async_context(
            following(parts, actor_of(request), asked, _flaw)
        )
        if not wants_stream(request.headers.get("accept", "")):
            return json_response(await _page(followed), headers={"Vary": "Accept"})
        key = Standing(followed.reader.stop)
        stack.enter_context(parts.revocation.heeded(principal, key))
        stack.enter_context(parts.metrics.streaming("sse"))
        return EventStream(_chunks(followed, key), stack.pop_all())


def _flaw(name: str, message: str) -> Problem:
    return parameter_flaw({"type": "types"}.get(name, name), message)


async def _page(followed: Followed) -> dict[str, Any]:
    """The StreamPage of the reference; it is empty only if there is nothing more now."""
    reader, member = followed
    marked: list[Marked] = []
    while reader.has_news and not marked:
        marked = await reader.take()
    return {
        "items": [from_json(event.json) for event, _ in marked],
        "position": Position(reader.epoch, reader.place).text(),
        "member": member and member.id,
    }


async def _chunks(followed: Followed, key: Standing) -> AsyncIterator[bytes]:
    reader, member = followed
    yield format_sse_event(retry=RECONNECT_AFTER)
    position = Position(reader.epoch, reader.place).text()
    begun = {
        "position": position,
        "consumer": member and member.name,
        "member": member and str(member.id),
    }
    yield format_sse_event(event="subscribed", data_str=json.dumps(begun), id=position)
    if reader.is_reset:
        yield format_sse_event(event="reset", data_str='{"reason":"position-unknown"}')
    while not reader.is_stopped:
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE):
                await reader.wait()
        if not reader.has_news:
            # A message without data moves the id alone: past what did not fit the types.
            yield format_sse_event(id=Position(reader.epoch, reader.place).text())
            continue
        try:
            marked = await reader.take()
        except DatabaseUnavailable:
            await asyncio.sleep(DATABASE_PAUSE)
            continue
        if marked:
            yield b"".join(
                format_sse_event(data_str=event.json, id=Position(reader.epoch, place).text())
                for event, place in marked
            )
    if member is not None and member.loss is not None:
        said = json.dumps({"consumer": member.name, "detail": str(member.loss)})
        why = "taken" if isinstance(member.loss, ConsumerTaken) else "deleted"
        yield format_sse_event(event=why, data_str=said, retry=LEFT_FOR)
    elif not key.is_revoked:
        yield BYE
