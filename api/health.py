"""Whether this process lives, whether it should be sent requests, and what it measures."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api import schemas
from api.documents import json_response
from api.parts import parts_of, principal_of
from api.problems import Problem
from api.promises import answer
from api.strict import StrictRoute
from jobs.keys.projects import OPERATOR

router = APIRouter(route_class=StrictRoute, tags=["operation"])


@router.get(
    "/livez",
    responses={
        200: answer("It answers", model=schemas.Alive),
        503: answer("Start it anew: one of its writers has ended", model=schemas.Alive),
    },
)
async def livez(request: Request) -> Response:
    """Whether the process works, whatever the servers that it needs do."""
    parts = parts_of(request)
    is_alive = parts.intake.is_alive and parts.event_writer.is_alive
    return json_response({"status": "alive" if is_alive else "dead"}, 200 if is_alive else 503)


@router.get(
    "/readyz",
    responses={
        200: answer("Requests are welcome", model=schemas.Readiness),
        503: answer("The database is away, or the process ends", model=schemas.Readiness),
    },
)
async def readyz(request: Request) -> Response:
    """Whether requests should be sent here. Without the broker they still should."""
    parts = parts_of(request)
    document = {**await parts.readiness.document(), "draining": parts.draining.is_set}
    if parts.draining.is_set:
        document["status"] = "unavailable"
    return json_response(document, 503 if document["status"] == "unavailable" else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
async def metrics(request: Request) -> Response:
    """What this process counts, and what the database holds of all projects.

    That is for keys of the project `default`.
    """
    if principal_of(request).project_id != OPERATOR:
        raise Problem("insufficient-scope", f"This needs a key of the project {OPERATOR!r}.")
    exposition = await parts_of(request).metrics.exposition()
    return Response(exposition, media_type=CONTENT_TYPE_LATEST)
