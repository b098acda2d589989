"""API keys: made here, shown once, listed, deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api import schemas
from api.bodies import NewKey, Text
from api.documents import json_response
from api.parts import actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.keys.store import KeyView, create_key, list_keys
from jobs.keys.text import shown
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["keys"])


@router.post(
    "/v1/keys",
    status_code=201,
    responses={
        201: answer("The key, this once", "Location", model=schemas.MadeApiKey),
        **problems(
            "bad-request",
            "payload-too-large",
            "unsupported-media-type",
            "validation-failed",
        ),
    },
)
async def make_key(request: Request, body: NewKey) -> Response:
    """Make a key for the same project. It is stored as a hash only."""
    parts, principal = parts_of(request), principal_of(request)
    for scope in body.scopes:
        principal.require(scope)  # nobody hands on more than they have
    made, text = await parts.database.change(
        actor_of(request),
        lambda made: Deed("key.create", made[0].id, {"name": body.name, "scopes": made[0].scopes}),
        create_key,
        principal.project_id,
        body.name,
        set(body.scopes),
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
    return {**document, "prefix": shown(key.id)}
