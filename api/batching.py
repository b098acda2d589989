"""Submitting batches: what REST's two addresses for it share."""

import hashlib
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from api.documents import batch_document, job_document, json_response
from api.parts import parts_of, principal_of
from api.preconditions import idempotency_key
from api.submission_bodies import MoreJobs, NewJob, NewJobs
from api.submitting import submit_many
from jobs.documents import canonical
from jobs.enqueue import Accepted, NewBatch
from jobs.errors import Flaw, InvalidSubmission
from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.submissions import NewJob as CheckedJob
from jobs.submissions import check
from jobs.waiting.batches import get_batch


async def submit_batch(request: Request, body: NewJobs) -> Response:
    """All of the jobs are accepted, and their batch where one was asked for; or none is."""
    parts = parts_of(request)
    for callback in (body.on_complete, body.on_success):
        if callback is not None:
            principal_of(request).require_kind(callback.kind)
    if not body.is_batch:
        return await _submit(request, body, None, b"")
    batch = NewBatch(
        uuid7(),
        failure_policy=body.failure_policy or "continue",
        is_open=bool(body.open),
        on_complete=_callback(parts.registry, body.on_complete, "#/on_complete"),
        on_success=_callback(parts.registry, body.on_success, "#/on_success"),
    )
    return await _submit(request, body, batch, _print(body))


async def add_to_batch(request: Request, batch_id: UUID, body: MoreJobs) -> Response:
    """The jobs belong to the open batch, all of them, or none."""
    batch = NewBatch(batch_id, is_new=False, is_open=body.open)
    return await _submit(request, body, batch, _print(body) + batch_id.bytes)


async def _submit(
    request: Request, body: NewJobs | MoreJobs, batch: NewBatch | None, more: bytes
) -> Response:
    parts, principal = parts_of(request), principal_of(request)
    key = idempotency_key(request.headers)
    submissions = [job.submission() for job in body.jobs]
    accepted = await submit_many(parts, principal, submissions, key, batch=batch, more=more)
    flower_url = parts.settings.flower_url
    document: dict[str, Any] = {"jobs": [job_document(job, flower_url) for job in accepted.jobs]}
    headers = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
    batch_id = _batch_of(accepted, batch)
    if batch_id is not None:
        view = await parts.database.run(get_batch, principal.project_id, batch_id)
        document["batch"] = batch_document(view)
        headers["Location"] = f"/v1/batches/{batch_id}"
    return json_response(document, 202, headers)


def _batch_of(accepted: Accepted, batch: NewBatch | None) -> UUID | None:
    """The one that the first request with this key has made, if it was not this one."""
    if batch is None:
        return None
    if batch.is_new and accepted.replayed:
        return next((job.batch_id for job in accepted.jobs if job.batch_id), None)
    return batch.id


def _callback(registry: Registry, body: NewJob | None, pointer: str) -> CheckedJob | None:
    if body is None:
        return None
    for name in ("unique", "after"):
        if getattr(body, name):
            said = "a batch's callback waits for the batch alone, and is always its own job"
            raise InvalidSubmission(Flaw(f"{pointer}/{name}", said))
    return check(registry, body.submission(), pointer)


def _print(body: NewJobs | MoreJobs) -> bytes:
    """SHA-256 of what the request says besides its jobs."""
    said = body.model_dump(mode="json", exclude={"jobs"})
    return hashlib.sha256(canonical(said)).digest()
