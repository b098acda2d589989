"""API keys: made here, shown once, listed, deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import Connection

from api import schemas
from api.bodies import NewKey, Text
from api.documents import json_response
from api.keyring import Principal
from api.parts import actor_of, parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.keys.store import KeyView, create_key, list_keys, require_key
from jobs.keys.text import shown
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["keys"])

MAKING = problems(
    "bad-request",
    "insufficient-scope",
    "key-limits-exceeded",
    "payload-too-large",
    "unsupported-media-type",
    "validation-failed",
)


@router.post(
    "/v1/keys",
    status_code=201,
    responses={201: answer("The key, this once", "Location", model=schemas.MadeApiKey), **MAKING},
)
async def make_key(request: Request, body: NewKey) -> Response:
    """Make a key for the same project, which may do no more than the one that asks.

    It is stored as a hash only.
    """
    return await made_key(request, body, principal_of(request).project_id)


async def made_key(request: Request, body: NewKey, project_id: str) -> Response:
    """The project has the key that was asked for. Problem 403."""
    principal, scopes = principal_of(request), body.opens()
    for scope in sorted(scopes):
        principal.require(scope)  # nobody hands on more than they have
    limits = body.limits().within(principal.limits)
    if (wider := limits.beyond(principal.limits)) is not None:
        detail = f"The {wider} would go beyond those of the key that asks."
        raise Problem("key-limits-exceeded", detail, limit=wider)

    def make(connection: Connection) -> tuple[KeyView, str]:
        require_key(connection, principal.key_id)  # one that was just deleted makes no other
        return create_key(connection, project_id, body.name, scopes, limits)

    made, text = await parts_of(request).database.change(
        actor_of(request)._replace(project_id=project_id),
        lambda made: Deed("key.create", made[0].id, _told(made[0], principal)),
        make,
    )
    headers = {"Location": f"/v1/keys/{made.id}", "Cache-Control": "no-store"}
    return json_response({**_document(made), "key": text}, 201, headers)


@router.get("/v1/keys", responses={200: answer("All keys, newest first", model=schemas.ApiKeys)})
async def read_keys(request: Request) -> Response:
    """List the project's keys, without their secrets."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    keys = await parts.database.run(list_keys, project_id)
    return json_response({"items": [_document(key) for key in keys]})


@router.delete(
    "/v1/keys/{key_id}",
    status_code=204,
    response_class=Response,
    responses=problems("key-not-found"),
)
async def delete_key(
    request: Request, key_id: Annotated[Text, Path(description="The key's id")]
) -> Response:
    """Delete a key; within five seconds it opens nothing any more."""
    await parts_of(request).keyring.delete(actor_of(request), key_id)
    return Response(status_code=204)


def _document(key: KeyView) -> dict[str, Any]:
    document = key._asdict()
    del document["project_id"]
    rate, burst = document.pop("rate"), document.pop("burst")
    limit = None if rate is None else {"per_second": rate, "burst": burst}
    return {**document, "rate": limit, "prefix": shown(key.id)}


def _told(key: KeyView, maker: Principal) -> dict[str, Any]:
    """What the audit trail says of it."""
    is_foreign = key.project_id != maker.project_id
    return {
        "name": key.name,
        "scopes": key.scopes,
        "kinds": key.kinds,
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "rate": key.rate,
        "by_project": maker.project_id if is_foreign else None,
    }
