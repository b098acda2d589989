"""From a checked body to an accepted job: what REST and the WebSocket's commands share."""

from collections.abc import Sequence

from anyio import to_thread
from starlette.responses import Response

from api.documents import job_document, json_response
from api.keyring import Principal
from api.parts import Parts
from api.preconditions import etag
from api.waiting import is_final, job_when
from jobs.enqueue import Accepted, Intake
from jobs.errors import Flaw, InvalidSubmission
from jobs.registry import Registry
from jobs.submissions import NewJob, Submission, check, fingerprint

RETRY_AFTER = "1"  # seconds: most jobs are quick
_MOST_FLAWS = 100  # then the rest of a batch is not looked at


async def submit_one(
    parts: Parts, principal: Principal, submission: Submission, key: str | None
) -> Accepted:
    """The job is accepted, now or by an earlier request with the same key.

    InvalidSubmission, Problem 403, and whatever the writer raises (api/intake.py).
    """
    principal.require_kind(submission.kind)
    job = check(parts.registry, submission)
    print_ = b"" if key is None else fingerprint([submission], batch=False)
    return await _enter(parts, Intake(principal.project_id, [job], key, print_))


async def submit_many(
    parts: Parts, principal: Principal, submissions: Sequence[Submission], key: str | None
) -> Accepted:
    """All of the jobs are accepted. As `submit_one`; flaws of many jobs are named together."""
    for kind in {submission.kind: None for submission in submissions}:
        principal.require_kind(kind)
    # A thousand sets of args take a while; in a thread they leave others their turns.
    jobs = await to_thread.run_sync(_check_all, parts.registry, submissions)
    print_ = b"" if key is None else fingerprint(submissions, batch=True)
    return await _enter(parts, Intake(principal.project_id, jobs, key, print_))


async def accepted_response(
    parts: Parts, principal: Principal, accepted: Accepted, seconds: int | None
) -> Response:
    """202 with the job; 200 with a finished one, where it was preferred to wait for that."""
    job = accepted.jobs[0]
    headers = {"Location": f"/v1/jobs/{job.id}"}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        if not is_final(job):
            job = await job_when(parts, principal, job.id, is_final, seconds)
    status = 200 if seconds is not None and is_final(job) else 202
    if status == 202:  # noqa: PLR2004 - Accepted
        headers["Retry-After"] = RETRY_AFTER
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    headers["ETag"] = etag(job.seq)
    return json_response(job_document(job, parts.settings.flower_url), status, headers)


async def _enter(parts: Parts, intake: Intake) -> Accepted:
    accepted = await parts.intake.submit(intake)
    if not accepted.replayed:
        parts.metrics.count_submitted(accepted.jobs)
    return accepted


def _check_all(registry: Registry, submissions: Sequence[Submission]) -> list[NewJob]:
    jobs: list[NewJob] = []
    flaws: list[Flaw] = []
    for number, submission in enumerate(submissions):
        try:
            jobs.append(check(registry, submission, f"#/jobs/{number}"))
        except InvalidSubmission as error:
            flaws.extend(error.flaws)
        if len(flaws) >= _MOST_FLAWS:
            break
    if flaws:
        raise InvalidSubmission(*flaws)
    return jobs
