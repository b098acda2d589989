"""Rows as the JSON that clients read. Quick: no model in between, each document built once."""

from collections.abc import Iterable
from typing import Any, Protocol

from pydantic_core import to_json
from starlette.responses import Response

from jobs.views import JobView
from jobs.waiting.batches import BatchView

JSON = "application/json"


def job_document(job: JobView, flower_url: str | None, *, full: bool = True) -> dict[str, Any]:
    """The Job of the contract; without args and result where it is not `full`."""
    document = job._asdict()
    if not full:
        del document["args"], document["result"]
    document["version"] = job.seq
    key, scope = document.pop("unique_key"), document.pop("unique_scope")
    document["unique"] = None if key is None else {"key": key, "scope": scope}
    key, limit = document.pop("concurrency_key"), document.pop("concurrency_limit")
    document["concurrency"] = None if key is None else {"key": key, "limit": limit}
    document["after"] = job.after or []
    document["links"] = _links(job, flower_url)
    return document


def batch_document(batch: BatchView) -> dict[str, Any]:
    """The Batch of the reference."""
    document = batch._asdict()
    document["open"] = document.pop("is_open")
    document["state"] = batch.state
    path = f"/v1/batches/{batch.id}"
    jobs = f"/v1/jobs?batch={batch.id}"
    document["links"] = {"self": path, "jobs": jobs, "cancel": f"{path}/cancel"}
    return document


def _links(job: JobView, flower_url: str | None) -> dict[str, str]:
    path = f"/v1/jobs/{job.id}"
    links = {
        "self": path,
        "events": f"{path}/events",
        "ws": f"{path}/ws",
        "attempts": f"{path}/attempts",
        "logs": f"{path}/logs",
        "cancel": f"{path}/cancel",
        "retry": f"{path}/retry",
        "run_now": f"{path}/run-now",
        "rerun": f"{path}/rerun",
    }
    if flower_url is not None and job.attempt:
        links["flower"] = f"{flower_url.rstrip('/')}/task/{job.id}:{job.attempt}"
    return links


class Row(Protocol):
    """A NamedTuple."""

    def _asdict(self) -> dict[str, Any]: ...


def rows_document(rows: Iterable[Row]) -> dict[str, Any]:
    """A list of rows whose columns are the document's members."""
    return {"items": [row._asdict() for row in rows]}


def json_response(
    document: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The document as it goes out; times are RFC 3339 in UTC."""
    return Response(to_json(document), status, headers, media_type=JSON)
