"""Submitting jobs, and reading one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from api import schemas
from api.batching import submit_batch
from api.documents import job_document, json_response
from api.parts import parts_of, principal_of
from api.preconditions import LONGEST_WAIT, etag, idempotency_key, matches, preferred_wait
from api.promises import IDEMPOTENCY_KEY, IF_NONE_MATCH, PREFER, answer, problems
from api.strict import StrictRoute
from api.submission_bodies import NewJob, NewJobs
from api.submitting import accepted_response, submit_one
from api.waiting import is_final, job_when
from jobs.queries import get_job
from jobs.views import JobView

router = APIRouter(route_class=StrictRoute, tags=["jobs"])

JobId = Annotated[UUID, Path(description="The job's id")]
SUBMITTING_CODES = (
    "insufficient-scope",
    "kind-not-allowed",
    "bad-request",
    "idempotency-key-invalid",
    "idempotency-in-flight",
    "job-deleted",
    "unique-conflict",
    "payload-too-large",
    "unsupported-media-type",
    "validation-failed",
    "idempotency-key-reused",
    "overloaded",
)
SUBMITTING = problems(*SUBMITTING_CODES)
ACCEPTED = answer(
    "Accepted: it will not be lost",
    *("Location", "ETag", "Retry-After", "?Idempotency-Replayed", "?Preference-Applied"),
    model=schemas.Job,
)
FINISHED = answer(
    "It has ended within the preferred time, well or not; or it had the unique key before",
    *("Location", "ETag", "?Preference-Applied", "?Idempotency-Replayed"),
    model=schemas.Job,
)


@router.post(
    "/v1/jobs",
    status_code=202,
    responses={202: ACCEPTED, 200: FINISHED, **SUBMITTING},
    openapi_extra={"parameters": [IDEMPOTENCY_KEY, PREFER]},
)
async def submit_job(request: Request, body: NewJob) -> Response:
    """Submit a job. Once it is accepted it runs, whatever happens meanwhile."""
    parts, principal = parts_of(request), principal_of(request)
    seconds, key = preferred_wait(request.headers), idempotency_key(request.headers)
    accepted = await submit_one(parts, principal, body.submission(), key)
    return await accepted_response(parts, principal, accepted, seconds)


@router.post(
    "/v1/jobs/batch",
    status_code=202,
    responses={
        202: answer("All are accepted", "?Location", "?Idempotency-Replayed", model=schemas.Jobs),
        **SUBMITTING,
    },
    openapi_extra={"parameters": [IDEMPOTENCY_KEY]},
)
async def submit_jobs(request: Request, body: NewJobs) -> Response:
    """Submit up to 1000 jobs: all of them are accepted, or none.

    With `on_complete`, `on_success`, `failure_policy` or `open` they are a batch, which is kept.
    """
    return await submit_batch(request, body)


@router.get(
    "/v1/jobs/{job_id}",
    responses={
        200: answer("The job", "ETag", model=schemas.Job),
        304: answer("The client has this version", "ETag"),
        **problems("job-not-found", "validation-failed"),
    },
    openapi_extra={"parameters": [IF_NONE_MATCH]},
)
async def read_job(
    request: Request,
    job_id: JobId,
    wait: Annotated[
        float | None,
        Query(
            ge=0,
            allow_inf_nan=False,
            description="Wait up to so many seconds (30 at most) until the version is another than"
            " that of If-None-Match; without that header, until the job has ended",
        ),
    ] = None,
) -> Response:
    """Read a job, at once or as soon as there is something to say."""
    parts, principal = parts_of(request), principal_of(request)
    known = request.headers.get("if-none-match")

    def is_enough(job: JobView) -> bool:
        return is_final(job) if known is None else not matches(known, etag(job.seq))

    job = await parts.database.run(get_job, principal.project_id, job_id)
    if wait and not is_enough(job):
        job = await job_when(parts, principal, job_id, is_enough, min(wait, LONGEST_WAIT))
    headers = {"ETag": etag(job.seq)}
    if matches(known, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_response(job_document(job, parts.settings.flower_url), headers=headers)
