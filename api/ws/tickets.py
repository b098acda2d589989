"""Tickets for pages, which cannot send an API key with a WebSocket, and should not hold one."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from api import schemas
from api.bodies import NewTicket
from api.documents import json_response
from api.keyring import CHALLENGE
from api.parts import actor_of, parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.strict import StrictRoute
from api.ws.handshake import FOR_SOCKETS
from jobs.keys.scopes import Scope
from jobs.keys.tickets import make_ticket
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["events"])


@router.post(
    "/v1/ws-tickets",
    status_code=201,
    responses={
        201: answer("The ticket, this once", model=schemas.WsTicket),
        **problems(
            "bad-request", "payload-too-large", "unsupported-media-type", "validation-failed"
        ),
    },
)
async def make_ws_ticket(
    request: Request, body: Annotated[NewTicket | None, Body()] = None
) -> Response:
    """Make a ticket that opens one WebSocket at /v1/ws, once, within 30 seconds."""
    parts, principal = parts_of(request), principal_of(request)
    scopes = {*body.scopes} if body else FOR_SOCKETS & principal.scopes
    for scope in scopes:
        principal.require(Scope(scope))  # nobody hands on more than they have
    made = await parts.database.change(
        actor_of(request),
        lambda made: made and Deed("ticket.create", principal.key_id, {"scopes": sorted(scopes)}),
        make_ticket,
        principal.key_id,
        scopes,
    )
    if made is None:
        headers = {"WWW-Authenticate": CHALLENGE}
        raise Problem("unauthenticated", "The API key is not valid.", headers=headers)
    document = {"ticket": made[0], "expires_at": made[1], "scopes": sorted(scopes)}
    return json_response(document, 201, {"Cache-Control": "no-store"})
