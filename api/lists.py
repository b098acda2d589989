"""Lists of jobs, and what belongs to one: its attempts and its log."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import schemas
from api.documents import job_document, json_response, rows_document
from api.errors import parameter_flaw
from api.job_query import LABEL, MOST, JobQuery
from api.jobs import JobId
from api.paging import Page, find_place
from api.parts import parts_of, principal_of
from api.promises import answer, problems
from api.strict import ANY_KEY, StrictRoute
from jobs.pages import page_jobs
from jobs.queries import JobFilter, count_children, list_attempts, list_log

router = APIRouter(route_class=StrictRoute, tags=["jobs"])

After = Annotated[int, Query(ge=0, le=MOST, description="Only what came after this `seq`")]


@router.get(
    "/v1/jobs",
    responses={
        200: answer("A page", "Link", model=schemas.JobPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_jobs(request: Request, asked: Annotated[JobQuery, Query()]) -> Response:
    """List jobs, newest first. A page may be short; `next_cursor: null` is the only end."""
    parts, principal = parts_of(request), principal_of(request)
    place = find_place(request, asked, "full")
    page = await parts.database.run(
        page_jobs,
        principal.project_id,
        asked.filter(_labels(request)),
        limit=place.limit,
        before=place.before,
        full=asked.full,
    )
    flower_url = parts.settings.flower_url
    items = [job_document(job, flower_url, full=asked.full) for job in page.jobs]
    return place.answer(items, page.last_id)


@router.get(
    "/v1/jobs/{job_id}/children",
    responses={
        200: answer("A page", "Link", model=schemas.Children),
        **problems("cursor-mismatch", "job-not-found", "validation-failed"),
    },
)
async def list_children(
    request: Request, job_id: JobId, asked: Annotated[Page, Query()]
) -> Response:
    """List the jobs that a job's handler has submitted, newest first, with counts of all."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    counts = await parts.database.run(count_children, project_id, job_id)
    place = find_place(request, asked)
    page = await parts.database.run(
        page_jobs,
        project_id,
        JobFilter(parent_id=job_id),
        limit=place.limit,
        before=place.before,
    )
    flower_url = parts.settings.flower_url
    items = [job_document(job, flower_url, full=False) for job in page.jobs]
    return place.answer(items, page.last_id, counts=counts)


@router.get(
    "/v1/jobs/{job_id}/attempts",
    responses={200: answer("The attempts", model=schemas.Attempts), **problems("job-not-found")},
)
async def read_attempts(request: Request, job_id: JobId) -> Response:
    """List a job's attempts, the running one included."""
    project_id = principal_of(request).project_id
    rows = await parts_of(request).database.run(list_attempts, project_id, job_id)
    return json_response(rows_document(rows))


@router.get(
    "/v1/jobs/{job_id}/logs",
    responses={
        200: answer("The lines", model=schemas.Log),
        **problems("job-not-found", "validation-failed"),
    },
)
async def read_log(request: Request, job_id: JobId, after: After = 0) -> Response:
    """List the lines that a job's handler has written, oldest first."""
    project_id = principal_of(request).project_id
    rows = await parts_of(request).database.run(list_log, project_id, job_id, after)
    return json_response(rows_document(rows))


def _labels(request: Request) -> dict[str, str]:
    given = {
        name.removeprefix(LABEL): value
        for name, value in request.query_params.items()
        if name.startswith(LABEL)
    }
    if any("\0" in part for label in given.items() for part in label):
        raise parameter_flaw(f"{LABEL}{ANY_KEY}", "no label holds U+0000")
    return given
