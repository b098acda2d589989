"""Consumers over HTTP: who follows events under a name, and how far it has acknowledged them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.documents import json_response
from api.errors import body_flaw
from api.paging import Page, find_place
from api.parts import actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.bus import consumers
from jobs.feed import MOST_OF_POSITION, Position
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["events"])

Name = Annotated[str, Path(description="The consumer's name")]


class Consumer(BaseModel):
    """A name under which somebody follows events."""

    model_config = ConfigDict(extra="forbid")

    name: str
    types: list[str] = Field(description="Patterns, as its newest member asked for them")
    position: str = Field(description="Acknowledged; opaque")
    member: UUID = Field(description="The newest who follows under the name")
    joined_at: datetime = Field(description="So that one did")
    acknowledged_at: datetime | None
    created_at: datetime


class ConsumerPage(BaseModel):
    """Some consumers, newest first."""

    model_config = ConfigDict(extra="forbid")

    items: list[Consumer]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Acknowledgement(BaseModel):
    """How far a consumer has come."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "position": "1b9d6bcd.812",
                    "member": "01938d3e-0000-7000-8000-000000000000",
                }
            ]
        },
    )

    position: str = Field(
        max_length=MOST_OF_POSITION, description="The `id` of the last message that is done with"
    )
    member: UUID = Field(description="As `subscribed` has said")


@router.get(
    "/v1/consumers",
    responses={
        200: answer("A page", "Link", model=ConsumerPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_consumers(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List the names under which events are followed, newest first."""
    place, project_id = find_place(request, asked), principal_of(request).project_id
    found, last_id = await parts_of(request).database.run(
        consumers.page_consumers, project_id, limit=place.limit, before=place.before
    )
    return place.answer([_document(each) for each in found], last_id)


@router.get(
    "/v1/consumers/{name}",
    responses={200: answer("The consumer", model=Consumer), **problems("consumer-not-found")},
)
async def read_consumer(request: Request, name: Name) -> Response:
    """Read how far a consumer has come."""
    project_id = principal_of(request).project_id
    found = await parts_of(request).database.run(consumers.get_consumer, project_id, name)
    return json_response(_document(found))


@router.post(
    "/v1/consumers/{name}/ack",
    responses={
        200: answer("So far it has come", model=Consumer),
        **problems(
            *("bad-request", "payload-too-large", "unsupported-media-type"),
            *("consumer-not-found", "consumer-taken", "validation-failed"),
        ),
    },
)
async def acknowledge_events(request: Request, name: Name, body: Acknowledgement) -> Response:
    """Acknowledge all events up to a position: who follows under the name next begins there.

    A position before what was acknowledged changes nothing; one that the database has not come to
    is refused. 409 when another member has taken the place.
    """
    position = Position.parse(body.position)
    if position is None:
        raise body_flaw("#/position", "this is no position of this server")
    found = await parts_of(request).database.transact(
        consumers.acknowledge,
        principal_of(request).project_id,
        name,
        body.member,
        position,
    )
    return json_response(_document(found))


@router.delete(
    "/v1/consumers/{name}",
    status_code=204,
    response_class=Response,
    responses=problems("consumer-not-found"),
)
async def delete_consumer(request: Request, name: Name) -> Response:
    """Forget a consumer and its position; who follows under the name is sent away."""
    parts, actor = parts_of(request), actor_of(request)
    deed = Deed("consumer.delete", name)
    await parts.database.change(actor, deed, consumers.delete_consumer, actor.project_id, name)
    parts.hints.tell_published()
    return Response(status_code=204)


def _document(consumer: consumers.Consumer) -> dict[str, Any]:
    document = consumer._asdict()
    del document["id"]
    document["types"] = document.pop("patterns")
    document["member"] = document.pop("member_id")
    return document
