"""What a client may ask of a job that exists: end, go on, begin again, be gone."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from api import moving, schemas
from api.bodies import Cancellation, Rerun
from api.documents import job_document, json_response
from api.jobs import ACCEPTED, FINISHED, SUBMITTING, JobId
from api.parts import Parts, actor_of, parts_of, principal_of
from api.preconditions import etag, idempotency_key, preferred_wait
from api.promises import IDEMPOTENCY_KEY, PREFER, answer, problems
from api.strict import StrictRoute
from api.submitting import accepted_response, submit_one
from jobs import removal
from jobs.queries import get_submission
from jobs.trail.record import Deed
from jobs.views import JobView

router = APIRouter(route_class=StrictRoute, tags=["jobs"])

_MOVED = {
    202: answer("It is so", "ETag", model=schemas.Job),
    **problems("job-not-found", "invalid-transition"),
}


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=202,
    responses={
        202: answer("Cancelled, or asked to end while it runs", "ETag", model=schemas.Job),
        200: answer("It was cancelled before", "ETag", model=schemas.Job),
        **problems(
            "bad-request",
            "job-not-found",
            "invalid-transition",
            "payload-too-large",
            "unsupported-media-type",
            "validation-failed",
        ),
    },
)
async def cancel_job(
    request: Request, job_id: JobId, body: Annotated[Cancellation | None, Body()] = None
) -> Response:
    """End a job. A running one is asked to: unless it succeeds all the same, it ends cancelled."""
    parts = parts_of(request)
    job, status = await moving.cancel(
        parts, actor_of(request), job_id, body.reason if body else None
    )
    return _moved(parts, job, status)


@router.post("/v1/jobs/{job_id}/retry", status_code=202, responses=_MOVED)
async def retry_job(request: Request, job_id: JobId) -> Response:
    """Start a failed, cancelled or retrying job again, with fresh budgets."""
    parts = parts_of(request)
    return _moved(parts, await moving.retry(parts, actor_of(request), job_id))


@router.post("/v1/jobs/{job_id}/run-now", status_code=202, responses=_MOVED)
async def run_job_now(request: Request, job_id: JobId) -> Response:
    """Start a scheduled or retrying job without waiting for its time."""
    parts = parts_of(request)
    return _moved(parts, await moving.run_now(parts, actor_of(request), job_id))


@router.post(
    "/v1/jobs/{job_id}/rerun",
    status_code=202,
    responses={202: ACCEPTED, 200: FINISHED, **SUBMITTING, **problems("job-not-found")},
    openapi_extra={"parameters": [IDEMPOTENCY_KEY, PREFER]},
)
async def rerun_job(
    request: Request, job_id: JobId, body: Annotated[Rerun | None, Body()] = None
) -> Response:
    """Submit the same again, as a new job that names this one in `rerun_of`."""
    parts, principal = parts_of(request), principal_of(request)
    seconds, key = preferred_wait(request.headers), idempotency_key(request.headers)
    args = body.args if body else None
    submission = await parts.database.run(get_submission, principal.project_id, job_id, args)
    accepted = await submit_one(parts, principal, submission, key)
    return await accepted_response(parts, principal, accepted, seconds)


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    response_class=Response,
    responses=problems("job-not-found", "invalid-transition"),
)
async def delete_job(request: Request, job_id: JobId) -> Response:
    """Delete a job that has ended, with its events and attempts."""
    parts, actor = parts_of(request), actor_of(request)
    await parts.database.change(
        actor,
        Deed("job.delete", job_id),
        removal.delete_job,
        actor.project_id,
        job_id,
        process_id=parts.removals_id,
    )
    return Response(status_code=204)


def _moved(parts: Parts, job: JobView, status: int = 202) -> Response:
    document = job_document(job, parts.settings.flower_url)
    return json_response(document, status, {"ETag": etag(job.seq)})
