"""From a checked body to an accepted job: what REST and the WebSocket's commands share."""

from collections.abc import Sequence

from anyio import to_thread
from starlette.responses import Response

from api.documents import job_document, json_response
from api.keyring import Principal
from api.lane import is_quick
from api.parts import Parts
from api.preconditions import etag
from api.sealing import sealed
from api.waiting import is_final, job_when
from jobs.enqueue import Accepted, Intake, NewBatch
from jobs.submissions import Submission, check, check_all, fingerprint

SUBMITTED = "job.submit"  # the audit trail's word
RETRY_AFTER = "1"  # seconds: most jobs are quick


async def submit_one(
    parts: Parts, principal: Principal, submission: Submission, key: str | None
) -> Accepted:
    """The job is accepted, now or by an earlier request with the same key.

    InvalidSubmission, Problem 403, and whatever the writer raises (api/intake.py).
    """
    principal.require_kind(submission.kind)
    job = check(parts.registry, submission)
    print_ = b"" if key is None else fingerprint([submission], batch=False)
    tally = parts.tallies.tally(
        principal.key_id, SUBMITTED, principal.actor, job.id, 1, lane=is_quick(job, key)
    )
    return await _enter(parts, Intake(principal.project_id, [job], key, print_, tally=tally))


async def submit_many(
    parts: Parts,
    principal: Principal,
    submissions: Sequence[Submission],
    key: str | None,
    *,
    batch: NewBatch | None = None,
    more: bytes = b"",
) -> Accepted:
    """All of the jobs are accepted, in that batch. As `submit_one`; flaws are named together.

    `more` is what else the request says, which its repetition has to say too.
    """
    for kind in {submission.kind: None for submission in submissions}:
        principal.require_kind(kind)
    # A thousand sets of args take a while; in a thread they leave others their turns.
    jobs = await to_thread.run_sync(check_all, parts.registry, submissions)
    print_ = b"" if key is None else fingerprint(submissions, batch=True) + more
    first, count = jobs[0].id, len(jobs)
    tally = parts.tallies.tally(principal.key_id, SUBMITTED, principal.actor, first, count)
    return await _enter(parts, Intake(principal.project_id, jobs, key, print_, batch, tally))


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
    is_known = seconds is None and job.id in accepted.found
    status = 200 if is_known or (seconds is not None and is_final(job)) else 202
    if status == 202:  # noqa: PLR2004 - Accepted
        headers["Retry-After"] = RETRY_AFTER
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    headers["ETag"] = etag(job.seq)
    return json_response(job_document(job, parts.settings.flower_url), status, headers)


async def _enter(parts: Parts, intake: Intake) -> Accepted:
    accepted = await parts.intake.submit(sealed(parts.vault, parts.settings, intake))
    parts.metrics.count_submitted(accepted.made)
    return accepted
