"""A job's history: as JSON, as Server-Sent Events, over a WebSocket. All read one log."""

from contextlib import AsyncExitStack
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from api.documents import JSON
from api.errors import parameter_flaw, problem_of
from api.follower import Follower
from api.parts import Parts, parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.recorded import recorded
from api.revocation import Standing
from api.sse import EventStream, chunks_of
from api.strict import StrictRoute
from api.websocket import Listener, refuse, send_events
from jobs.errors import JobsError
from jobs.events import read_history
from jobs.keys.scopes import Scope
from jobs.states import Move

PAGE = 1000  # events a query, so that none is long
SSE = "text/event-stream"

router = APIRouter(route_class=StrictRoute, tags=["events"])

EventType = StrEnum(  # type: ignore[misc]  # derived, so that it cannot fall behind the moves
    "EventType", ["created", *dict.fromkeys(move.event for move in Move), "reprioritised"]
)


class Event(BaseModel):
    """One line of a job's history."""

    model_config = ConfigDict(extra="forbid")

    job_id: UUID
    seq: int = Field(ge=1, description="1, 2, 3 … per job, without gaps, in commit order")
    type: EventType
    at: datetime
    attempt: int = Field(ge=0, description="That was the newest when it happened")
    data: dict[str, JsonValue] = Field(description="What the type brings with it")


class Events(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[Event]


Seq = Annotated[int, Field(ge=0, le=2**31 - 1)]
After = Annotated[Seq, Query(description="The `seq` of the last event that is known")]
LastEventId = Annotated[
    Seq, Header(alias="Last-Event-ID", description="The same, from an EventSource: it goes first")
]
_ANSWER = answer(
    "As JSON: every event after that `seq` that there is now. As a stream:"
    " `id` is the `seq`, `event` the type, `data` the Event; it ends after the event that ends the"
    " job. `event: bye` says that the server is about to end: come back, and resume.",
    model=Events,
)
_STREAM = {SSE: {"schema": {"type": "string"}, "example": "id: 1\nevent: created\ndata: {…}\n\n"}}


@router.get(
    "/v1/jobs/{job_id}/events",
    responses={
        200: {**_ANSWER, "content": _STREAM},
        204: {"description": "To a stream: there is nothing left, do not come back"},
        **problems("job-not-found", "validation-failed", "database-unavailable", "draining"),
    },
)
async def list_or_stream_events(
    request: Request,
    job_id: Annotated[UUID, Path(description="The job's id")],
    after: After = 0,
    last_event_id: LastEventId = 0,
) -> Response:
    """What has happened to a job; with `Accept: text/event-stream` also what happens from now."""
    parts, principal = parts_of(request), principal_of(request)
    project_id = principal.project_id
    if not wants_stream(request.headers.get("accept", "")):
        items = ",".join(await _all_events(parts, project_id, job_id, after))
        return Response(f'{{"items":[{items}]}}', media_type=JSON, headers={"Vary": "Accept"})
    _refuse_while_draining(parts)
    async with AsyncExitStack() as stack:
        seen = last_event_id or after
        follower = await stack.enter_async_context(parts.hub.follow(project_id, job_id, seen))
        if follower.is_over:
            return Response(status_code=204)
        key = Standing(follower.stop)
        stack.enter_context(parts.revocation.heeded(principal, key))
        stack.enter_context(parts.metrics.streaming("sse"))
        return EventStream(chunks_of(follower, key), stack.pop_all())


async def _all_events(parts: Parts, project_id: str, job_id: UUID, after: int) -> list[str]:
    """The JSON of all events after that `seq` that there are now, read page by page."""
    found: list[str] = []
    while True:
        history = await parts.database.run(read_history, project_id, job_id, after, PAGE)
        found += [recorded(event).json for event in history.events]
        if not history.events or history.events[-1].seq >= history.seq:
            return found
        after = history.events[-1].seq


@router.websocket("/v1/jobs/{job_id}/ws")
async def send_events_over_websocket(websocket: WebSocket, job_id: str) -> None:
    """What has happened to a job, and then what happens, until it has ended."""
    listener = Listener()
    async with AsyncExitStack() as stack:
        try:
            follower = await _follow(websocket, job_id, listener, stack)
        except Problem as problem:
            await refuse(websocket, problem)
        except JobsError as error:
            await refuse(websocket, problem_of(error))
        else:
            await websocket.accept()
            with parts_of(websocket).metrics.streaming("ws"):
                await send_events(websocket, follower, listener)


async def _follow(
    websocket: WebSocket, job_id: str, listener: Listener, stack: AsyncExitStack
) -> Follower:
    parts = parts_of(websocket)
    principal = await parts.keyring.authenticate(websocket.headers.get("authorization"))
    principal.require(Scope.JOBS_READ)
    _refuse_while_draining(parts)
    after = _after(websocket)
    stack.enter_context(parts.sockets.opened(principal, listener))
    try:
        wanted = UUID(job_id)
    except ValueError:
        raise Problem("job-not-found", f"no job {job_id}") from None
    return await stack.enter_async_context(parts.hub.follow(principal.project_id, wanted, after))


def _refuse_while_draining(parts: Parts) -> None:
    if parts.draining.is_set:
        raise Problem("draining", "Come back in a moment.", headers={"Retry-After": "1"})


def _after(websocket: WebSocket) -> int:
    for name in websocket.query_params:
        if name != "after":
            raise parameter_flaw(name, "there is no such parameter here")
    try:
        return _SEQ.validate_python(websocket.query_params.get("after", "0"))
    except ValidationError as error:
        raise parameter_flaw("after", error.errors()[0]["msg"]) from None


_SEQ: TypeAdapter[int] = TypeAdapter(Seq)


def wants_stream(accept: str) -> bool:
    """Whether the Accept header names Server-Sent Events, and JSON not before them."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        quality: Any = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            qualities[name] = float(quality)
        except ValueError:
            qualities[name] = 0.0
    quality_of_stream = qualities.get(SSE, 0.0)
    return quality_of_stream > 0 and quality_of_stream >= qualities.get(JSON, 0.0)
