"""The same request twice is one job."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import Engine

from tests.api.serving import Api, problem
from tests.api.working import succeed

BODY = {"kind": "test.echo", "args": {"value": 1}}


def post(api: Api, key: str, body: Any = BODY, path: str = "/v1/jobs") -> httpx2.Response:
    return api.http.post(path, json=body, headers={"Idempotency-Key": key})


def new_key() -> str:
    return str(uuid4())


def count(api: Api) -> int:
    return len(api.http.get("/v1/jobs?limit=200").json()["items"])


def test_the_second_request_is_answered_with_the_first_ones_job(api: Api, engine: Engine) -> None:
    key = new_key()
    first, second = post(api, key), post(api, key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert second.json() == first.json()
    succeed(engine, first.json()["id"], "done")
    third = post(api, key)
    assert (third.status_code, third.headers["idempotency-replayed"]) == (202, "true")
    assert (third.json()["state"], third.json()["result"]) == ("succeeded", "done")
    assert third.headers["etag"] == '"3"'


def test_with_prefer_wait_a_finished_one_is_200(api: Api, engine: Engine) -> None:
    key = new_key()
    succeed(engine, post(api, key).json()["id"])
    headers = {"Idempotency-Key": key, "Prefer": "wait=5"}
    replayed = api.http.post("/v1/jobs", json=BODY, headers=headers)
    assert replayed.status_code == 200
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.headers["preference-applied"] == "wait=5"


def test_the_order_of_members_and_spelt_out_defaults_make_no_other_request(api: Api) -> None:
    key = new_key()
    first = post(api, key)
    again = post(api, key, {"priority": 5, "args": {"value": 1}, "kind": "test.echo", "labels": {}})
    assert again.json()["id"] == first.json()["id"]


def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    key = new_key()
    post(api, key)
    other = post(api, key, {"kind": "test.echo", "args": {"value": 2}})
    assert problem(other, 422, "idempotency-key-reused")["first_seen_at"].endswith("Z")
    problem(post(api, key, {"jobs": [BODY]}, "/v1/jobs/batch"), 422, "idempotency-key-reused")


def test_quotes_around_a_key_are_not_part_of_it(api: Api) -> None:
    key = new_key()
    assert post(api, key).json()["id"] == post(api, f'"{key}"').json()["id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, '"unfinished', '"a" b', "schlüssel"])
def test_a_key_that_cannot_be_read_is_400(api: Api, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode())]
    refused = api.http.post("/v1/jobs", json=BODY, headers=headers)
    problem(refused, 400, "idempotency-key-invalid")


@pytest.mark.parametrize("key", ["x" * 255, "order 17/~", 'a"b"c', '"' + "y" * 255 + '"'])
def test_keys_of_255_printable_characters_are_taken(api: Api, key: str) -> None:
    assert post(api, key).status_code == 202


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    key = new_key()
    problem(post(api, key, {"kind": "no.such", "args": {}}), 422, "validation-failed")
    accepted = post(api, key)
    assert accepted.status_code == 202
    assert "idempotency-replayed" not in accepted.headers


def test_a_deleted_jobs_key_answers_410(api: Api, engine: Engine) -> None:
    key = new_key()
    job_id = post(api, key).json()["id"]
    succeed(engine, job_id)
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    problem(post(api, key), 410, "job-deleted")


def test_keys_are_a_projects_own(api: Api) -> None:
    key = new_key()
    with api.client_of(project="another") as theirs:
        other = theirs.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": key})
        assert other.json()["id"] != post(api, key).json()["id"]


def test_a_batch_is_replayed_as_a_whole(api: Api) -> None:
    key, body = new_key(), {"jobs": [BODY, BODY]}
    first, second = (post(api, key, body, "/v1/jobs/batch") for _ in range(2))
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


def test_a_rerun_is_made_once(api: Api) -> None:
    path, key = f"/v1/jobs/{api.submit()['id']}/rerun", new_key()
    first, second = (post(api, key, {}, path) for _ in range(2))
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    other = f"/v1/jobs/{api.submit()['id']}/rerun"
    problem(post(api, key, {}, other), 422, "idempotency-key-reused")


def test_many_at_once_with_one_key_make_one_job(api: Api) -> None:
    key, before = new_key(), count(api)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: post(api, key), range(64)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert count(api) == before + 1
