"""Which kinds of jobs this server runs, and what their args look like."""

from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import PydanticSchemaGenerationError
from pydantic.errors import PydanticInvalidForJsonSchema

from api import schemas
from api.documents import json_response
from api.parts import parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.gates import Pause, Scope, pauses
from jobs.submissions import DEFAULT_PRIORITY
from lading.authoring import Kind
from lading.durations import as_timedelta

router = APIRouter(route_class=StrictRoute, tags=["kinds"])


@router.get("/v1/kinds", responses={200: answer("All kinds, by name", model=schemas.Kinds)})
async def list_kinds(request: Request) -> Response:
    """List the kinds, with the JSON Schemas of their args and results."""
    paused = await _pauses(request)
    registry = parts_of(request).registry
    return json_response(
        {"items": [_document(kind, paused.get(kind.name)) for kind in registry.values()]}
    )


@router.get(
    "/v1/kinds/{kind}",
    responses={200: answer("The kind", model=schemas.Kind), **problems("kind-not-found")},
)
async def read_kind(
    request: Request, kind: Annotated[str, Path(examples=["demo.sleep"])]
) -> Response:
    """Read one kind."""
    found = parts_of(request).registry.get(kind)
    if found is None:
        raise Problem("kind-not-found", f"no kind {kind}")
    return json_response(_document(found, (await _pauses(request)).get(kind)))


async def _pauses(request: Request) -> dict[str, Pause]:
    project_id = principal_of(request).project_id
    return await parts_of(request).database.run(pauses, project_id, Scope.KIND)


def _document(kind: Kind, pause: Pause | None) -> dict[str, Any]:
    shown = None if pause is None else pause._asdict()
    return {**kind_document(kind), "paused": pause is not None, "pause": shown}


@cache
def kind_document(kind: Kind) -> dict[str, Any]:
    """What the Kind of the contract says of its code; the same as long as the process lives."""
    timeout, retry = kind.timeout, kind.retry
    return {
        "name": kind.name,
        "description": kind.handler.__doc__,
        "queue": kind.queue,
        "defaults": {
            "priority": DEFAULT_PRIORITY,
            "max_attempts": kind.max_attempts,
            "timeout": None if timeout is None else timeout.total_seconds(),
            "retry": {
                "base": as_timedelta(retry.base).total_seconds(),
                "cap": as_timedelta(retry.cap).total_seconds(),
            },
        },
        "memory_limit": kind.memory_limit,
        "concurrency": kind.concurrency,
        "args_schema": kind.args_model.model_json_schema(),
        "result_schema": _result_schema(kind),
    }


def _result_schema(kind: Kind) -> dict[str, Any] | None:
    """None where the annotation says nothing that JSON Schema could."""
    try:
        return kind.result_adapter.json_schema(mode="serialization") or None
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return None
