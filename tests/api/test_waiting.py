"""Requests that wait for a job: they answer as soon as there is something to say."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import Engine, text

from tests.api.serving import Api, problem
from tests.api.working import fail, start, succeed
from tests.eventually import eventually


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def timed(request: Callable[[], httpx2.Response]) -> tuple[httpx2.Response, float]:
    before = time.monotonic()
    return request(), time.monotonic() - before


def test_a_version_that_the_client_has_is_304(api: Api) -> None:
    path = f"/v1/jobs/{api.submit()['id']}"
    for tag in ('"1"', 'W/"1"', '"7", "1"', "*"):
        response = api.http.get(path, headers={"If-None-Match": tag})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == '"1"'
    for tag in ('"2"', '"11"', "1", ""):
        assert api.http.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_without_a_tag_it_waits_for_the_end(
    api: Api, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    job_id = api.submit()["id"]
    waiting = pool.submit(timed, lambda: api.http.get(f"/v1/jobs/{job_id}?wait=20"))
    start(engine, job_id)
    assert not waiting.done()
    fail(engine, job_id, runs=True)
    response, took = waiting.result(20)
    assert (response.status_code, response.json()["state"]) == (200, "failed")
    assert took < 10


def test_with_a_tag_it_waits_for_the_next_version(
    api: Api, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    path = f"/v1/jobs/{api.submit()['id']}"
    headers = {"If-None-Match": '"1"'}
    waiting = pool.submit(timed, lambda: api.http.get(f"{path}?wait=20", headers=headers))
    start(engine, path.rsplit("/", 1)[1])
    response, took = waiting.result(20)
    assert (response.status_code, response.json()["state"]) == (200, "running")
    assert response.headers["etag"] == '"2"'
    assert took < 10


def test_at_the_end_of_the_wait_the_job_is_as_it_is(api: Api) -> None:
    path = f"/v1/jobs/{api.submit()['id']}"
    response, took = timed(lambda: api.http.get(f"{path}?wait=0.3"))
    assert (response.status_code, response.json()["state"]) == (200, "queued")
    assert 0.3 <= took < 5
    unchanged, took = timed(
        lambda: api.http.get(f"{path}?wait=0.3", headers={"If-None-Match": '"1"'})
    )
    assert (unchanged.status_code, unchanged.headers["etag"]) == (304, '"1"')
    assert 0.3 <= took < 5


def test_what_has_been_waited_for_is_answered_at_once(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    succeed(engine, job_id)
    response, took = timed(lambda: api.http.get(f"/v1/jobs/{job_id}?wait=1000000"))
    assert response.json()["state"] == "succeeded"
    assert took < 5


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "inf", ""])
def test_a_wait_is_a_number_of_seconds(api: Api, wait: str) -> None:
    found = problem(
        api.http.get(f"/v1/jobs/{api.submit()['id']}?wait={wait}"), 422, "validation-failed"
    )
    assert (found["errors"][0]["pointer"], found["errors"][0]["in"]) == ("#/wait", "query")


def test_a_job_that_is_deleted_meanwhile_is_404(
    api: Api, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    job_id = api.submit()["id"]
    succeed(engine, job_id)
    headers = {"If-None-Match": '"3"'}
    waiting = pool.submit(
        timed, lambda: api.http.get(f"/v1/jobs/{job_id}?wait=20", headers=headers)
    )
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    response, took = waiting.result(20)
    problem(response, 404, "job-not-found")
    assert took < 10


def test_more_wait_than_there_are_connections(
    api: Api, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    jobs = [api.submit()["id"] for _ in range(30)]
    waiting = [pool.submit(api.http.get, f"/v1/jobs/{job_id}?wait=20") for job_id in jobs]
    eventually(lambda: idle_connections(engine) >= 1)
    response, took = timed(lambda: api.http.get("/v1/jobs?limit=1"))
    assert response.status_code == 200
    assert took < 5
    for job_id in jobs:
        succeed(engine, job_id)
    assert {each.result(20).json()["state"] for each in waiting} == {"succeeded"}


def idle_connections(engine: Engine) -> int:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lading api'"
    with engine.connect() as connection:
        return int(connection.execute(text(statement)).scalar_one())


def test_a_submission_may_wait_for_the_end(
    api: Api, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    body = {"kind": "test.echo", "args": {}, "labels": {"waits": "yes"}}
    headers = {"Prefer": "respond-async, wait=20"}
    waiting = pool.submit(timed, lambda: api.http.post("/v1/jobs", json=body, headers=headers))
    found = eventually(lambda: api.http.get("/v1/jobs?label.waits=yes").json()["items"])
    succeed(engine, found[0]["id"], 42)
    response, took = waiting.result(20)
    assert (response.status_code, response.json()["result"]) == (200, 42)
    assert response.headers["preference-applied"] == "wait=20"
    assert response.headers["location"] == f"/v1/jobs/{found[0]['id']}"
    assert "retry-after" not in response.headers
    assert took < 10


def test_a_failed_job_is_200_too(api: Api, engine: Engine, pool: ThreadPoolExecutor) -> None:
    body = {"kind": "test.echo", "args": {}, "labels": {"fails": "yes"}}
    waiting = pool.submit(
        lambda: api.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
    )
    found = eventually(lambda: api.http.get("/v1/jobs?label.fails=yes").json()["items"])
    fail(engine, found[0]["id"])
    assert (waiting.result(20).status_code, waiting.result().json()["state"]) == (200, "failed")


def test_one_that_does_not_end_in_time_is_202(api: Api) -> None:
    response, took = timed(
        lambda: api.http.post(
            "/v1/jobs", json={"kind": "test.echo", "args": {}}, headers={"Prefer": "wait=1"}
        )
    )
    assert (response.status_code, response.json()["state"]) == (202, "queued")
    assert response.headers["preference-applied"] == "wait=1"
    assert response.headers["retry-after"] == "1"
    assert 1 <= took < 10


def test_a_preference_that_is_not_understood_is_ignored(api: Api) -> None:
    for prefer in ("wait=soon", "wait", "wait=-1", "handling=lenient"):
        response = api.http.post(
            "/v1/jobs", json={"kind": "test.echo", "args": {}}, headers={"Prefer": prefer}
        )
        assert response.status_code == 202
        assert "preference-applied" not in response.headers
