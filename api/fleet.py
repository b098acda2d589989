"""Queues, and the workers that serve them."""

from fastapi import APIRouter, Request, Response

from api import schemas, standing
from api.documents import json_response, rows_document
from api.parts import parts_of, principal_of
from api.promises import answer
from api.strict import StrictRoute
from jobs.queues import list_queues
from jobs.workers import list_workers

router = APIRouter(route_class=StrictRoute, tags=["queues and workers"])


@router.get("/v1/queues", responses={200: answer("All queues, by name", model=standing.Queues)})
async def read_queues(request: Request) -> Response:
    """List the queues: those of the kinds, and all others that are in use."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    known = {kind.queue for kind in parts.registry.values()}
    lease = parts.settings.lease
    return json_response(
        rows_document(await parts.database.run(list_queues, project_id, known, lease))
    )


@router.get("/v1/workers", responses={200: answer("Those alive", model=schemas.Workers)})
async def read_workers(request: Request) -> Response:
    """List the workers that have been seen within a lease."""
    parts = parts_of(request)
    rows = await parts.database.run(list_workers, parts.settings.lease)
    return json_response(rows_document(rows))
