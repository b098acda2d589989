"""Limits, rates and pauses over HTTP."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from api import standing
from jobs.gates import Gate, Scope, set_limit
from tests.api.serving import Api, problem


@pytest.fixture(autouse=True)
def gates(engine: Engine) -> Iterator[None]:
    yield
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE gate"))


def test_a_limit_is_set_read_listed_and_taken_away(api: Api) -> None:
    asked = {"concurrency": 5, "rate": {"limit": 100, "period": 2}}
    for name in ("key:tenant/7", "kind:test.echo", "queue:io"):
        response = api.http.put(f"/v1/limits/{name}", json=asked)
        assert response.status_code == 200, response.text
        shown = standing.Limit.model_validate_json(response.content)
        assert (shown.name, shown.concurrency, shown.paused) == (name, 5, False)
        assert shown.rate is not None
        assert shown.rate.burst == 5
        assert api.http.get(f"/v1/limits/{name}").json()["free"] == 5
    first = api.http.get("/v1/limits", params={"limit": 2}).json()
    standing.LimitPage.model_validate(first)
    second = api.http.get("/v1/limits", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    names = [limit["name"] for page in (first, second) for limit in page["items"]]
    assert names == ["key:tenant/7", "kind:test.echo", "queue:io"]
    assert second["next_cursor"] is None
    with api.client_of(project="another") as theirs:
        assert theirs.get("/v1/limits").json()["items"] == []
    assert api.http.delete("/v1/limits/queue:io").status_code == 204
    problem(api.http.get("/v1/limits/queue:io"), 404, "limit-not-found")
    problem(api.http.delete("/v1/limits/queue:io"), 404, "limit-not-found")


@pytest.mark.parametrize(
    ("name", "known"), [("kind:test.echo", True), ("kind:not.yet", False), ("queue:io", None)]
)
def test_a_limit_says_whether_its_kind_is_known(api: Api, name: str, known: bool | None) -> None:
    shown = api.http.put(f"/v1/limits/{name}", json={"concurrency": 1}).json()
    assert shown["kind_known"] is known
    assert api.http.get("/v1/limits").json()["items"] == [shown]


def test_a_submission_sets_its_keys_limit(api: Api) -> None:
    api.submit(concurrency={"key": "mine", "limit": 2})
    job = api.submit(concurrency={"key": "mine", "limit": 3})
    assert job["concurrency"] == {"key": "mine", "limit": 3}
    assert api.http.get("/v1/limits/key:mine").json()["concurrency"] == 3
    api.submit(concurrency={"key": "mine"})
    assert api.http.get("/v1/limits/key:mine").json()["concurrency"] == 3


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/limits/key:a", {}),
        ("PUT", "/v1/limits/key:a", {"concurrency": 0}),
        ("PUT", "/v1/limits/key:a", {"rate": {"limit": 1, "period": 0}}),
        ("PUT", "/v1/limits/key:a", {"concurrency": 1, "more": 1}),
        ("POST", "/v1/jobs", {"kind": "test.echo", "args": {}, "concurrency": {"key": ""}}),
        ("POST", "/v1/jobs", {"kind": "test.echo", "args": {}, "concurrency": {"limit": 1}}),
    ],
)
def test_what_is_no_limit_is_refused(api: Api, method: str, path: str, body: object) -> None:
    problem(api.http.request(method, path, json=body), 422, "validation-failed")


def test_what_is_missing_is_said_in_our_own_words(api: Api) -> None:
    told = problem(api.http.put("/v1/limits/key:a", json={}), 422, "validation-failed")
    assert told["errors"] == [{"pointer": "#", "detail": "concurrency, rate or both are needed"}]


def test_names_of_nothing_are_404(api: Api) -> None:
    for name in ("tenant", "kind:No Such", "queue:No Queue"):
        problem(api.http.get(f"/v1/limits/{name}"), 404, "limit-not-found")
        asked = api.http.put(f"/v1/limits/{name}", json={"concurrency": 1})
        problem(asked, 404, "limit-not-found")
    problem(api.http.post("/v1/kinds/no.such/pause"), 404, "kind-not-found")
    problem(api.http.post("/v1/queues/No%20Queue/pause"), 404, "queue-not-found")


def test_a_limit_of_a_name_that_is_refused_today_is_read_and_taken_away(
    api: Api, engine: Engine
) -> None:
    with engine.begin() as connection:
        gate = Gate(Scope.QUEUE, "No Queue")
        set_limit(connection, "default", gate, concurrency=1, rate=None)
    [listed] = [
        each for each in api.http.get("/v1/limits").json()["items"] if each["name"] == str(gate)
    ]
    assert api.http.get(f"/v1/limits/{gate}").json()["concurrency"] == listed["concurrency"] == 1
    assert api.http.delete(f"/v1/limits/{gate}").status_code == 204
    problem(api.http.get(f"/v1/limits/{gate}"), 404, "limit-not-found")


def test_pauses_show_who_and_why(api: Api) -> None:
    for path, shown_at in (
        ("/v1/queues/io", "/v1/queues"),
        ("/v1/kinds/test.echo", "/v1/kinds"),
        ("/v1/limits/key:tenant", "/v1/limits"),
    ):
        response = api.http.post(f"{path}/pause", json={"reason": "moving"})
        assert response.status_code == 200, response.text
        paused = [each for each in api.http.get(shown_at).json()["items"] if each["paused"]]
        [found] = [each for each in paused if path.endswith(each["name"])]
        assert found["pause"]["reason"] == "moving"
        assert found["pause"]["by"]
        assert found["pause"]["at"].endswith("Z")
        resumed = api.http.post(f"{path}/resume").json()
        assert (resumed["paused"], resumed["pause"]) == (False, None)


def test_a_job_that_waits_is_explained(api: Api) -> None:
    api.http.post("/v1/queues/own/pause", json={"reason": "moving"})
    job_id = api.submit(queue="own")["id"]
    response = api.http.get(f"/v1/jobs/{job_id}/explain")
    shown = standing.Explanation.model_validate_json(response.content)
    assert [reason.code for reason in shown.reasons] == ["paused", "no-worker"]
    assert shown.reasons[0].facts["reason"] == "moving"
    with api.client_of(project="another") as theirs:
        problem(theirs.get(f"/v1/jobs/{job_id}/explain"), 404, "job-not-found")
