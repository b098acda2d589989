"""Unique jobs, jobs after others, children and batches over HTTP."""

from typing import Any

import pytest

from api import schemas
from tests.api.serving import Api, at_once, problem

ECHO: dict[str, Any] = {"kind": "test.echo", "args": {}}
NOBODY = "00000000-0000-7000-8000-000000000000"


def unique(key: str, on_conflict: str = "reject") -> dict[str, Any]:
    return {**ECHO, "unique": {"key": key, "on_conflict": on_conflict}}


def test_a_unique_key_answers_by_its_policy(api: Api) -> None:
    first = api.http.post("/v1/jobs", json=unique("one"))
    assert first.status_code == 202
    job = first.json()
    assert job["unique"] == {"key": "one", "scope": "active"}
    refused = problem(api.http.post("/v1/jobs", json=unique("one")), 409, "unique-conflict")
    assert refused["job_id"] == job["id"]
    returned = api.http.post("/v1/jobs", json=unique("one", "return"))
    assert (returned.status_code, returned.json()) == (200, job)
    assert returned.headers["location"] == f"/v1/jobs/{job['id']}"
    key = {"Idempotency-Key": "returned"}
    for replayed in (None, "true"):
        again = api.http.post("/v1/jobs", json=unique("one", "return"), headers=key)
        assert again.json()["id"] == job["id"]
        assert again.headers.get("idempotency-replayed") == replayed
    replacing = api.http.post("/v1/jobs", json=unique("one", "replace"))
    assert replacing.status_code == 202
    assert api.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    for verb, status in (("retry", 409), ("rerun", 409)):
        answer = api.http.post(f"/v1/jobs/{job['id']}/{verb}")
        assert problem(answer, status, "unique-conflict")["job_id"] == replacing.json()["id"]


@pytest.mark.parametrize(
    ("policy", "answers"),
    [("reject", {202, 409}), ("return", {200, 202}), ("replace", {202, 409})],
)
def test_of_concurrent_submissions_of_a_key_one_job_is_left(
    api: Api, policy: str, answers: set[int]
) -> None:
    key = f"raced-{policy}"
    told = at_once(lambda: api.http.post("/v1/jobs", json=unique(key, policy)), 8)
    assert {each.status_code for each in told} <= answers
    accepted = {each.json()["id"] for each in told if each.status_code == 202}
    live = [job for job in map(api.job, accepted) if job["state"] == "queued"]
    assert len(live) == 1
    if policy != "replace":
        assert accepted == {live[0]["id"]}
        named = {each.json().get("job_id") or each.json().get("id") for each in told}
        assert named == accepted
        assert sum(each.status_code == 202 for each in told) == 1


def test_a_batch_is_kept_with_its_counts_and_callbacks(api: Api) -> None:
    body = {
        "jobs": [ECHO, {**ECHO, "after": ["#0"]}],
        "on_complete": ECHO,
        "on_success": ECHO,
        "open": True,
    }
    key = {"Idempotency-Key": "batch"}
    answer = api.http.post("/v1/jobs/batch", json=body, headers=key)
    assert answer.status_code == 202
    first, second = answer.json()["jobs"]
    assert (second["state"], second["after"]) == ("waiting", [first["id"]])
    batch = answer.json()["batch"]
    schemas.Batch.model_validate(batch)
    path = f"/v1/batches/{batch['id']}"
    assert answer.headers["location"] == path
    assert (batch["state"], batch["jobs"]) == ("running", 2)
    assert batch["counts"] == {"queued": 1, "waiting": 1}
    assert api.http.get(f"/v1/jobs/{batch['on_success']}").json()["state"] == "waiting"
    assert api.http.get(path).json() == batch
    replay = api.http.post("/v1/jobs/batch", json=body, headers=key)
    assert (replay.json(), replay.headers["idempotency-replayed"]) == (answer.json(), "true")
    other = {**body, "open": False}
    refused = api.http.post("/v1/jobs/batch", json=other, headers=key)
    assert problem(refused, 422, "idempotency-key-reused")

    more = api.http.post(f"{path}/jobs", json={"jobs": [ECHO]})
    assert (more.status_code, more.json()["batch"]["jobs"]) == (202, 3)
    assert problem(api.http.post(f"{path}/jobs", json={"jobs": [ECHO]}), 409, "batch-closed")
    listed = api.http.get("/v1/jobs", params={"batch": batch["id"]}).json()["items"]
    assert [job["batch_id"] for job in listed] == [batch["id"]] * 3
    assert api.http.post(f"{path}/cancel").status_code == 202
    cancelled = api.http.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["cancel_reason"]) == (200, "requested")


def test_batches_are_listed_page_by_page(api: Api) -> None:
    made = [
        api.http.post("/v1/jobs/batch", json={"jobs": [ECHO], "failure_policy": "continue"})
        for _ in range(3)
    ]
    ids = [answer.json()["batch"]["id"] for answer in reversed(made)]
    first = api.http.get("/v1/batches", params={"limit": 2}).json()
    rest = api.http.get("/v1/batches", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [batch["id"] for batch in first["items"] + rest["items"]][:3] == ids


def test_without_the_wish_there_is_no_batch(api: Api) -> None:
    answer = api.http.post("/v1/jobs/batch", json={"jobs": [ECHO]})
    assert answer.json().keys() == {"jobs"}
    assert answer.json()["jobs"][0]["batch_id"] is None


def test_what_is_wrong_with_a_batch_is_named(api: Api) -> None:
    for body, pointer in (
        ({"jobs": [ECHO, {**ECHO, "after": ["#1"]}]}, "#/jobs/1/after/0"),
        ({"jobs": [ECHO, {**ECHO, "after": [NOBODY]}]}, "#/jobs/1/after/0"),
        ({"jobs": [ECHO], "on_complete": unique("no")}, "#/on_complete/unique"),
        ({"jobs": [ECHO], "on_success": {**ECHO, "kind": "none"}}, "#/on_success/kind"),
        ({"jobs": [unique("a"), unique("a")]}, "#/jobs/1/unique/key"),
    ):
        refused = problem(api.http.post("/v1/jobs/batch", json=body), 422, "validation-failed")
        assert refused["errors"][0]["pointer"] == pointer
    for address in ("", "/jobs", "/cancel"):
        path = f"/v1/batches/{NOBODY}{address}"
        answer = api.http.post(path, json={"jobs": [ECHO]} if address == "/jobs" else {})
        if not address:
            answer = api.http.get(path)
        problem(answer, 404, "batch-not-found")


def test_a_job_shows_its_children(api: Api) -> None:
    (parent,) = api.http.post("/v1/jobs/batch", json={"jobs": [ECHO]}).json()["jobs"]
    answer = api.http.get(f"/v1/jobs/{parent['id']}/children").json()
    assert answer == {"items": [], "next_cursor": None, "counts": {}}
    problem(api.http.get(f"/v1/jobs/{NOBODY}/children"), 404, "job-not-found")
