"""Submitting and reading a job."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from api import schemas
from tests.api.serving import Api, problem
from tests.api.working import fail, start, succeed

NOBODY = "00000000-0000-7000-8000-000000000000"
MEMBERS = {
    *("id", "kind", "state", "queue", "priority", "args", "result", "error", "progress"),
    *("attempt", "failures", "crashes", "max_attempts", "labels", "version", "seq"),
    *("cancel_requested", "created_at", "run_at", "queued_at", "started_at", "finished_at"),
    *("parent_id", "rerun_of", "unique", "after", "batch_id", "schedule_id", "concurrency"),
    "links",
}


def test_a_submission_is_accepted_and_can_be_read(api: Api) -> None:
    response = api.http.post("/v1/jobs", json={"kind": "test.echo", "args": {"value": 1}})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"] == "1"
    assert response.headers["etag"] == '"1"'
    assert response.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in response.headers
    assert "preference-applied" not in response.headers
    assert UUID(job["id"]).version == 7
    assert (job["state"], job["version"], job["seq"], job["attempt"]) == ("queued", 1, 1, 0)
    assert (job["kind"], job["args"], job["queue"]) == ("test.echo", {"value": 1}, "default")
    assert (job["priority"], job["max_attempts"], job["labels"]) == (5, 5, {})
    assert job.keys() == MEMBERS
    assert api.job(job["id"]) == job
    schemas.Job.model_validate_json(response.content)


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "test.echo", "args": {"value": 12345678901234567890123}}',
        b'{"kind": "no.kind", "args": {}, "kind": "test.echo", "args": {"value": 0, "value": 1.0}}',
        b'\xef\xbb\xbf{"kind": "test.echo", "args": {"value": -0.5}}',  # left to FastAPI
    ],
    ids=["large", "twice", "marked"],
)
def test_a_body_means_what_python_reads_in_it(api: Api, body: bytes) -> None:
    response = api.http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 202
    assert response.json()["args"] == json.loads(body)["args"]


def test_times_are_utc(api: Api) -> None:
    job = api.submit()
    assert job["created_at"].endswith("Z")
    assert job["queued_at"] == job["created_at"]
    age = datetime.now(UTC) - datetime.fromisoformat(job["created_at"])
    assert abs(age) < timedelta(minutes=1)


def test_every_option_is_kept(api: Api) -> None:
    options: dict[str, Any] = {
        "queue": "reports.weekly",
        "priority": 9,
        "max_attempts": 2,
        "timeout": 1.5,
        "expires_in": 60,
        "labels": {"customer": "17", "ü": ""},
        "concurrency": {"key": "tenant/7", "limit": 3},
    }
    job = api.submit(delay=3600, **options)
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("reports.weekly", 9, 2)
    assert job["labels"] == options["labels"]
    assert job["state"] == "scheduled"
    assert job["queued_at"] is None
    waits = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["created_at"])
    assert waits == timedelta(hours=1)


def test_run_at_is_a_moment_with_an_offset(api: Api) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    job = api.submit(run_at=later.isoformat())
    assert (job["state"], datetime.fromisoformat(job["run_at"])) == ("scheduled", later)
    past = api.submit(run_at="2001-02-03T04:05:06+02:00")
    assert (past["state"], past["run_at"]) == ("queued", "2001-02-03T02:05:06Z")


def test_secrets_are_not_shown(api: Api) -> None:
    job = api.submit("test.secret", args={"user": "me", "password": "hush"})
    assert job["args"] == {"user": "me", "password": "**********"}
    assert "hush" not in api.http.get(f"/v1/jobs/{job['id']}").text


def test_a_finished_job_shows_its_result(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    succeed(engine, job_id, {"answer": 42})
    job = api.job(job_id)
    assert (job["state"], job["result"], job["error"]) == ("succeeded", {"answer": 42}, None)
    assert (job["attempt"], job["version"]) == (1, 3)
    assert job["finished_at"] is not None


def test_a_failed_job_shows_its_error(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    fail(engine, job_id)
    job = api.job(job_id)
    assert (job["state"], job["failures"], job["result"]) == ("failed", 1, None)
    assert job["error"] == {
        "cause": "exception",
        "type": "RuntimeError",
        "message": "no luck",
        "traceback": "Traceback …",
    }
    schemas.Job.model_validate(job)


def test_links_lead_on_and_to_flower_once_there_is_an_attempt(api: Api, engine: Engine) -> None:
    job = api.submit()
    path = f"/v1/jobs/{job['id']}"
    assert job["links"]["self"] == path
    assert {"events", "ws", "attempts", "logs", "cancel", "retry"} <= job["links"].keys()
    assert "flower" not in job["links"]
    for name in ("attempts", "logs"):
        assert api.http.get(job["links"][name]).status_code == 200
    start(engine, job["id"])
    assert api.settings.flower_url
    expected = f"{api.settings.flower_url}/task/{job['id']}:1"
    assert api.job(job["id"])["links"]["flower"] == expected


@pytest.mark.parametrize(
    "job_id", ["00000000-0000-7000-8000-000000000000", "nonsense", "%00", "01a2-"]
)
@pytest.mark.parametrize("path", ["", "/attempts", "/logs"])
def test_an_unknown_id_is_404_however_it_looks(api: Api, job_id: str, path: str) -> None:
    problem(api.http.get(f"/v1/jobs/{job_id}{path}"), 404, "job-not-found")


def test_other_projects_jobs_do_not_exist(api: Api) -> None:
    job_id = api.submit()["id"]
    theirs = api.client_of(project="another")
    problem(theirs.get(f"/v1/jobs/{job_id}"), 404, "job-not-found")
    problem(theirs.post(f"/v1/jobs/{job_id}/cancel"), 404, "job-not-found")
    problem(theirs.delete(f"/v1/jobs/{job_id}"), 404, "job-not-found")
    assert theirs.get("/v1/jobs").json()["items"] == []


FLAWS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "no.such"}, "#/kind"),
    ({"kind": 5}, "#/kind"),
    ({"args": []}, "#/args"),
    ({"args": {"value": "\0"}}, "#/args"),
    ({"args": {"value": "\ud800"}}, "#/args"),
    ({"args": {"value": "x" * 262_144}}, "#/args"),
    ({"kind": "test.secret", "args": {"user": "me"}}, "#/args/password"),
    ({"priority": 10}, "#/priority"),
    ({"priority": "5"}, "#/priority"),
    ({"priority": True}, "#/priority"),
    ({"priority": 2**70}, "#/priority"),
    ({"queue": ""}, "#/queue"),
    ({"queue": "No Such"}, "#/queue"),
    ({"queue": "a\n"}, "#/queue"),
    ({"delay": -1}, "#/delay"),
    ({"delay": 1e12}, "#/delay"),
    ({"delay": "5"}, "#/delay"),
    ({"run_at": "2030-01-01T00:00:00"}, "#/run_at"),
    ({"run_at": 1_700_000_000}, "#/run_at"),
    ({"run_at": "9999-12-31T23:59:59-12:00"}, "#/run_at"),
    ({"run_at": "0001-01-01T00:00:00+12:00"}, "#/run_at"),
    ({"run_at": "2100-01-01T00:00:00Z"}, "#/run_at"),
    ({"run_at": "2027-01-01T00:00:00Z", "delay": 5}, "#"),
    ({"max_attempts": 0}, "#/max_attempts"),
    ({"max_attempts": 1.5}, "#/max_attempts"),
    ({"timeout": 0}, "#/timeout"),
    ({"expires_in": 0}, "#/expires_in"),
    ({"labels": {"a": 1}}, "#/labels/a"),
    ({"labels": {"a": "x" * 256}}, "#/labels/a"),
    ({"labels": {f"k{n}": "" for n in range(65)}}, "#/labels"),
    ({"labels": {"a/b~c": "\0"}}, "#/labels/a~1b~0c"),
    ({"colour": "red"}, "#/colour"),
    ({"unique": {"key": ""}}, "#/unique/key"),
    ({"unique": {"key": "a", "scope": "always"}}, "#/unique/scope"),
    ({"after": ["#0"]}, "#/after/0"),
    ({"after": [NOBODY]}, "#/after/0"),
]


@pytest.mark.parametrize(("fields", "pointer"), FLAWS)
def test_a_flaw_is_named_with_a_pointer(api: Api, fields: dict[str, Any], pointer: str) -> None:
    body = {"kind": "test.echo", "args": {}, **fields}
    found = problem(post_text(api, json.dumps(body)), 422, "validation-failed")
    assert pointer in [flaw["pointer"] for flaw in found["errors"]]
    assert all(flaw["detail"] and flaw.keys() == {"pointer", "detail"} for flaw in found["errors"])


def test_the_limit_that_was_passed_stands_in_the_detail(api: Api) -> None:
    body = {"kind": "test.echo", "args": {"value": "x" * 262_144}}
    found = problem(api.http.post("/v1/jobs", json=body), 422, "validation-failed")
    assert "262144" in found["errors"][0]["detail"]


def test_what_is_missing_is_named(api: Api) -> None:
    found = problem(api.http.post("/v1/jobs", json={}), 422, "validation-failed")
    assert {flaw["pointer"] for flaw in found["errors"]} == {"#/kind", "#/args"}
    assert problem(api.http.post("/v1/jobs"), 422, "validation-failed")["errors"] == [
        {"pointer": "#", "detail": "Field required"}
    ]


def test_numbers_and_depth_at_the_edge_are_kept_or_refused(api: Api) -> None:
    for text in ("1e400", "-1e400", "NaN", "Infinity"):
        body = f'{{"kind": "test.echo", "args": {{"value": {text}}}}}'
        problem(post_text(api, body), 422, "validation-failed")
    for value in ("1e300", "123456789012345678901234567890", "1E-400", "-0.0"):
        body = f'{{"kind": "test.echo", "args": {{"value": {value}}}}}'
        assert post_text(api, body).status_code == 202
    deep = "[" * 5_000 + "]" * 5_000
    refused = post_text(api, f'{{"kind": "test.echo", "args": {{"value": {deep}}}}}')
    assert refused.status_code in {400, 422}
    nested = "[" * 150 + "]" * 150
    accepted = post_text(api, f'{{"kind": "test.echo", "args": {{"value": {nested}}}}}')
    assert accepted.status_code == 202


def post_text(api: Api, body: str) -> Any:
    return api.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})


def test_json_that_is_none_is_400(api: Api) -> None:
    found = problem(post_text(api, '{"kind": '), 400, "bad-request")
    assert "at character 9" in found["detail"]
    problem(post_text(api, '{"kind": "\xff'), 400, "bad-request")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_another_media_type_is_415(api: Api, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    body = b'{"kind": "test.echo", "args": {}}'
    response = api.http.post("/v1/jobs", content=body, headers=headers)
    problem(response, 415, "unsupported-media-type")
