"""Submitting and reading a job."""

from uuid import UUID, uuid4

import httpx2
import pytest

from api import schemas
from tests.api.serving import Api, problem


def test_a_submission_is_accepted_and_can_be_read(api: Api) -> None:
    sent = {"kind": "test.echo", "args": {"value": 1}}
    response = api.http.post("/v1/jobs", json=sent)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"] == "1"
    assert response.headers["etag"] == '"1"'
    assert response.headers["content-type"] == "application/json"
    assert UUID(job["id"]).version == 7
    assert (job["state"], job["version"], job["seq"], job["attempt"]) == ("queued", 1, 1, 0)
    assert api.job(job["id"]) == job
    schemas.Job.model_validate_json(response.content)


def test_an_unknown_id_is_404_however_it_looks(api: Api) -> None:
    for job_id in (uuid4(), "nonsense", "%00"):
        problem(api.http.get(f"/v1/jobs/{job_id}"), 404, "job-not-found")


@pytest.mark.parametrize("header", [None, "Bearer x", "Basic YTpi"])
def test_without_a_good_key_nothing_is_told(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = httpx2.get(f"{api.url}/v1/jobs/{uuid4()}", headers=headers)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")
