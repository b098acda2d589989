"""What a client may ask of a job that exists."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from jobs import lifecycle
from tests.api.serving import Api, problem
from tests.api.working import fail, retry_later, start, succeed

IDS = ["00000000-0000-7000-8000-000000000000", "nonsense"]


def ask(api: Api, job_id: str, verb: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    response = api.http.post(f"/v1/jobs/{job_id}/{verb}", json=body)
    assert response.status_code in {200, 202}, response.text
    job: dict[str, Any] = response.json()
    assert response.headers["etag"] == f'"{job["version"]}"'
    assert job == api.job(job_id)
    return response.status_code, job


def events(engine: Engine, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    statement = text("SELECT type, data FROM job_event WHERE job_id = :id ORDER BY seq")
    with engine.connect() as connection:
        return [(row.type, row.data) for row in connection.execute(statement, {"id": job_id})]


@pytest.mark.parametrize("job_id", IDS)
@pytest.mark.parametrize("verb", ["cancel", "retry", "run-now", "rerun"])
def test_an_unknown_job_is_404(api: Api, job_id: str, verb: str) -> None:
    problem(api.http.post(f"/v1/jobs/{job_id}/{verb}"), 404, "job-not-found")
    problem(api.http.delete(f"/v1/jobs/{job_id}"), 404, "job-not-found")


def test_a_queued_job_is_cancelled_at_once_and_again_is_200(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    status, job = ask(api, job_id, "cancel", {"reason": "changed my mind"})
    assert (status, job["state"]) == (202, "cancelled")
    assert events(engine, job_id)[-1] == ("cancelled", {"reason": "changed my mind"})
    status, again = ask(api, job_id, "cancel")
    assert (status, again) == (200, job)


def test_a_running_job_is_asked_to_end(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    start(engine, job_id)
    status, job = ask(api, job_id, "cancel")
    assert (status, job["state"], job["cancel_requested"]) == (202, "running", True)
    status, again = ask(api, job_id, "cancel", {})
    assert (status, again["version"]) == (202, job["version"])
    assert [type_ for type_, _ in events(engine, job_id)] == [
        "created",
        "started",
        "cancel_requested",
    ]


@pytest.mark.parametrize("end", [succeed, fail])
def test_an_ended_job_cannot_be_cancelled(api: Api, engine: Engine, end: Any) -> None:
    job_id = api.submit()["id"]
    end(engine, job_id)
    refused = api.http.post(f"/v1/jobs/{job_id}/cancel")
    found = problem(refused, 409, "invalid-transition")
    assert found["state"] == api.job(job_id)["state"]
    assert "cancel" not in found["allowed"]


@pytest.mark.parametrize("body", [{"reason": 5}, {"reason": "\0"}, {"why": "x"}, [], "x"])
def test_a_cancellation_that_does_not_fit_is_422(api: Api, body: Any) -> None:
    job_id = api.submit()["id"]
    problem(api.http.post(f"/v1/jobs/{job_id}/cancel", json=body), 422, "validation-failed")
    assert api.job(job_id)["state"] == "queued"


def test_a_failed_job_is_retried_with_fresh_budgets(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    fail(engine, job_id)
    status, job = ask(api, job_id, "retry")
    assert (status, job["state"], job["error"]) == (202, "queued", None)
    assert (job["failures"], job["attempt"], job["finished_at"]) == (0, 1, None)


def test_a_cancelled_and_a_retrying_job_are_retried(api: Api, engine: Engine) -> None:
    cancelled, retrying = api.submit()["id"], api.submit()["id"]
    ask(api, cancelled, "cancel")
    retry_later(engine, retrying)
    for job_id in (cancelled, retrying):
        assert ask(api, job_id, "retry")[1]["state"] == "queued"


def test_a_cancel_request_is_forgotten_by_a_retry(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    start(engine, job_id)
    ask(api, job_id, "cancel")
    with engine.begin() as connection:
        lifecycle.cancel_running(connection, UUID(job_id), attempt=1, reason="as asked")
    assert api.job(job_id)["cancel_requested"] is True
    assert ask(api, job_id, "retry")[1]["cancel_requested"] is False


def test_what_runs_or_waits_its_turn_is_not_retried(api: Api, engine: Engine) -> None:
    queued, running, done = (api.submit()["id"] for _ in range(3))
    start(engine, running)
    succeed(engine, done)
    for job_id in (queued, running, done):
        problem(api.http.post(f"/v1/jobs/{job_id}/retry"), 409, "invalid-transition")


def test_a_scheduled_and_a_retrying_job_run_now(api: Api, engine: Engine) -> None:
    scheduled, retrying = api.submit(delay=3600)["id"], api.submit()["id"]
    retry_later(engine, retrying)
    for job_id in (scheduled, retrying):
        assert ask(api, job_id, "run-now")[1]["state"] == "queued"
        problem(api.http.post(f"/v1/jobs/{job_id}/run-now"), 409, "invalid-transition")


def test_a_rerun_is_a_new_job_like_the_first(api: Api, engine: Engine) -> None:
    options: dict[str, Any] = {
        "queue": "again",
        "priority": 7,
        "labels": {"a": "b"},
        "max_attempts": 2,
    }
    first = api.submit(args={"value": 1}, timeout=9, **options)
    fail(engine, first["id"])
    response = api.http.post(f"/v1/jobs/{first['id']}/rerun")
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["id"] != first["id"]
    assert (job["rerun_of"], job["state"], job["version"]) == (first["id"], "queued", 1)
    assert {name: job[name] for name in options} == options
    assert job["args"] == {"value": 1}
    assert api.job(first["id"])["state"] == "failed"


def test_a_rerun_keeps_secrets_and_takes_other_args(api: Api, engine: Engine) -> None:
    args = {"user": "me", "password": "hush"}
    first = api.submit("test.secret", args=args)["id"]
    again = api.http.post(f"/v1/jobs/{first}/rerun").json()
    assert again["args"] == {"user": "me", "password": "**********"}
    statement = text("SELECT args FROM job WHERE id = :id")
    with engine.connect() as connection:
        assert connection.execute(statement, {"id": again["id"]}).scalar_one() == args
    other = api.http.post(f"/v1/jobs/{first}/rerun", json={"args": {"user": "you"}})
    found = problem(other, 422, "validation-failed")
    assert found["errors"][0]["pointer"] == "#/args/password"


def test_a_rerun_may_wait_for_the_end(api: Api) -> None:
    response = api.http.post(f"/v1/jobs/{api.submit()['id']}/rerun", headers={"Prefer": "wait=0"})
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")


def test_an_ended_job_is_deleted_with_all_that_is_its_own(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    fail(engine, job_id)
    response = api.http.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.content) == (204, b"")
    problem(api.http.get(f"/v1/jobs/{job_id}"), 404, "job-not-found")
    problem(api.http.delete(f"/v1/jobs/{job_id}"), 404, "job-not-found")
    assert events(engine, job_id) == []


def test_a_job_that_has_not_ended_is_not_deleted(api: Api, engine: Engine) -> None:
    queued, running = (api.submit()["id"] for _ in range(2))
    start(engine, running)
    for job_id in (queued, running):
        problem(api.http.delete(f"/v1/jobs/{job_id}"), 409, "invalid-transition")
        assert api.job(job_id)["id"] == job_id


def test_the_accounts_balance(api: Api, engine: Engine) -> None:
    for number in range(4):
        job_id = api.submit()["id"]
        if number % 2:
            succeed(engine, job_id)
            api.http.delete(f"/v1/jobs/{job_id}")
    with engine.connect() as connection:
        accepted, removed = connection.execute(
            text("SELECT sum(accepted), sum(removed) FROM intake_total")
        ).one()
        present = connection.execute(text("SELECT count(*) FROM job")).scalar_one()
    assert removed >= 2
    assert accepted - removed == present
