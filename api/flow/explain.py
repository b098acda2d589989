"""Why a job does not run."""

from fastapi import APIRouter, Request, Response

from api import standing
from api.documents import json_response
from api.jobs import JobId
from api.parts import parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.explain import explain

router = APIRouter(route_class=StrictRoute, tags=["jobs"])


@router.get(
    "/v1/jobs/{job_id}/explain",
    responses={
        200: answer("Why, the first reason first", model=standing.Explanation),
        **problems("job-not-found"),
    },
)
async def explain_job(request: Request, job_id: JobId) -> Response:
    """Say why a job does not run, as the dispatcher sees it, and what can be done about it."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    found = await parts.database.run(explain, project_id, job_id, parts.settings.lease)
    reasons = [reason._asdict() for reason in found.reasons]
    return json_response({**found._asdict(), "reasons": reasons})
