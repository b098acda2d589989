"""Batches: what became of jobs that were submitted together."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Request, Response

from api import moving, schemas
from api.batching import add_to_batch
from api.bodies import Cancellation
from api.documents import batch_document, json_response
from api.jobs import SUBMITTING_CODES
from api.paging import Page, find_place
from api.parts import actor_of, parts_of, principal_of
from api.promises import IDEMPOTENCY_KEY, answer, problems
from api.strict import StrictRoute
from api.submission_bodies import MoreJobs
from jobs.trail.record import Deed
from jobs.waiting.batches import cancel_batch, get_batch, page_batches

router = APIRouter(route_class=StrictRoute, tags=["batches"])

BatchId = Annotated[UUID, Path(description="The batch's id")]


@router.get(
    "/v1/batches",
    responses={
        200: answer("A page", "Link", model=schemas.BatchPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_batches(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List batches, newest first."""
    place, project_id = find_place(request, asked), principal_of(request).project_id
    page = await parts_of(request).database.run(
        page_batches, project_id, limit=place.limit, before=place.before
    )
    return place.answer([batch_document(batch) for batch in page.batches], page.last_id)


@router.get(
    "/v1/batches/{batch_id}",
    responses={200: answer("The batch", model=schemas.Batch), **problems("batch-not-found")},
)
async def read_batch(request: Request, batch_id: BatchId) -> Response:
    """Read a batch: how many of its jobs are in which state, and whether all have ended."""
    project_id = principal_of(request).project_id
    batch = await parts_of(request).database.run(get_batch, project_id, batch_id)
    return json_response(batch_document(batch))


@router.post(
    "/v1/batches/{batch_id}/jobs",
    status_code=202,
    responses={
        202: answer("All are accepted", "Location", "?Idempotency-Replayed", model=schemas.Jobs),
        **problems(*SUBMITTING_CODES, "batch-not-found", "batch-closed"),
    },
    openapi_extra={"parameters": [IDEMPOTENCY_KEY]},
)
async def submit_more_jobs(request: Request, batch_id: BatchId, body: MoreJobs) -> Response:
    """Add up to 1000 jobs to an open batch, all or none; without `open` they are its last."""
    return await add_to_batch(request, batch_id, body)


@router.post(
    "/v1/batches/{batch_id}/cancel",
    status_code=202,
    responses={
        202: answer("Its jobs are going to end", model=schemas.Batch),
        200: answer("That was asked for before", model=schemas.Batch),
        **problems(
            "bad-request",
            "batch-not-found",
            "batch-closed",
            "payload-too-large",
            "unsupported-media-type",
            "validation-failed",
        ),
    },
)
async def cancel_whole_batch(
    request: Request, batch_id: BatchId, body: Annotated[Cancellation | None, Body()] = None
) -> Response:
    """End a batch: what does not run is cancelled within a second, what runs is asked to end."""
    parts, actor = parts_of(request), actor_of(request)
    given = body.reason if body else None
    reason = given or moving.NO_REASON

    def deed(is_new: bool) -> Deed | None:
        return Deed("batch.cancel", batch_id, {"reason": given}) if is_new else None

    is_new = await parts.database.change(
        actor, deed, cancel_batch, actor.project_id, batch_id, reason
    )
    batch = await parts.database.run(get_batch, actor.project_id, batch_id)
    return json_response(batch_document(batch), 202 if is_new else 200)
