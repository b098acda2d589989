"""/v1/triggers: checked when they are made, tried, switched, and theirs alone to make jobs."""

from typing import Any
from uuid import uuid4

import pytest

from tests.api.serving import Api, problem

ECHO: dict[str, Any] = {"type": "user.created", "kind": "test.echo", "args": {"value": "data.id"}}


def make(api: Api, **fields: Any) -> dict[str, Any]:
    response = api.http.post("/v1/triggers", json={**ECHO, **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def jobs_of(api: Api, type_: str, data: Any) -> list[str]:
    response = api.http.post("/v1/events", json={"type": type_, "data": data})
    assert response.status_code == 202, response.text
    found: list[str] = response.json()["jobs"]
    return found


def test_a_trigger_is_made_read_changed_and_deleted(api: Api) -> None:
    made = make(api, name="echo", priority=7, labels={"by": "trigger"}, type="crud.*")
    path = made["links"]["self"]
    assert (made["origin"], made["enabled"], made["priority"]) == ("api", True, 7)
    assert api.http.get(path).json() == made
    assert api.http.get("/v1/triggers").json()["items"][0] == made
    (job_id,) = jobs_of(api, "crud.a", {"id": 1})
    assert (api.job(job_id)["priority"], api.job(job_id)["labels"]) == (7, {"by": "trigger"})
    changed = api.http.patch(path, json={"priority": None, "args": {"value": "data.x"}}).json()
    assert (changed["priority"], changed["args"]) == (None, {"value": "data.x"})
    assert changed["labels"] == made["labels"]
    assert api.http.patch(path, json={"enabled": False}).json()["enabled"] is False
    assert jobs_of(api, "crud.a", {"id": 2}) == []
    assert api.http.delete(path).status_code == 204
    problem(api.http.get(path), 404, "trigger-not-found")
    problem(api.http.delete(path), 404, "trigger-not-found")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"type": "*.created"}, "#/type"),
        ({"type": "user*"}, "#/type"),
        ({"type": ""}, "#/type"),
        ({"kind": "no.such"}, "#/kind"),
        ({"filter": {"plan": "pro"}}, "#/filter/plan"),
        ({"filter": {"data.plan": ["pro"]}}, "#/filter/data.plan"),
        ({"filter": {"data.plan": {"like": "p"}}}, "#/filter/data.plan/like"),
        ({"filter": {"data.plan": {"in": []}}}, "#/filter/data.plan/in"),
        ({"filter": {"data..plan": 1}}, "#/filter/data..plan"),
        ({"args": {"value": "data.["}}, "#/args/value"),
        ({"args": {"value": "user.name"}}, "#/args/value"),
        ({"args": {"value": "no_such(data)"}}, "#/args/value"),
        ({"args": {"value": "data[?join(n)]"}}, "#/args/value"),
        ({"args": {"value": "{a: not_null()}"}}, "#/args/value"),
        ({"args": {"value": {"deep": ["welcome"]}}}, "#/args/value/deep/0"),
        ({"args": {"value": "data.id", "other": 1}}, "#/args/other"),
        ({"kind": "test.flaky", "args": {"times": "data.n"}}, "#/args/path"),
        (
            {"kind": "test.flaky", "args": {"path": "data.path", "times": "'many'"}},
            "#/args/times",
        ),
        ({"kind": "test.flaky", "args": {"path": "'x'", "times": "'many'"}}, "#/args/times"),
        ({"args": 7}, "#/args"),
        ({"priority": 10}, "#/priority"),
        ({"enabled": "yes"}, "#/enabled"),
        ({"unknown": 1}, "#/unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_be_known_to_be_wrong_is_refused(
    api: Api, fields: dict[str, Any], pointer: str
) -> None:
    response = api.http.post("/v1/triggers", json={**ECHO, **fields})
    flaws = problem(response, 422, "validation-failed")["errors"]
    assert pointer in {flaw["pointer"] for flaw in flaws} or flaws[0]["pointer"].startswith(pointer)


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({"data.plan": "pro"}, True),
        ({"data.plan": "free"}, False),
        ({"data.plan": {"prefix": "p"}, "data.n": 1}, True),
        ({"data.plan": {"prefix": "p"}, "data.n": 2}, False),
        ({"data.plan": {"in": ["free", "pro"]}}, True),
        ({"data.plan": {"in": ["free"]}}, False),
        ({"data.missing": {"exists": False}}, True),
        ({"data.plan": {"exists": True}}, True),
        ({"data.missing": None}, False),
        ({"data.none": None}, True),
        ({"data.flag": 1}, False),
        ({"data.flag": True}, True),
        ({"data.n": 1.0}, True),
        ({"data.list.1.x": 2}, True),
        ({"data.list.7.x": 2}, False),
        ({"source": {"prefix": "/projects/"}}, True),
        ({"subject": "s", "type": "try.it"}, True),
    ],
    ids=str,
)
def test_conditions_hold_or_do_not(api: Api, conditions: dict[str, Any], is_met: bool) -> None:
    data = {"plan": "pro", "n": 1, "flag": True, "none": None, "list": [{"x": 1}, {"x": 2}]}
    made = make(api, type="try.*", filter=conditions, args=None)
    event = {"type": "try.it", "subject": "s", "data": data}
    trial = api.http.post(made["links"]["test"], json={"event": event}).json()
    assert (trial["fits_type"], trial["passes_filter"]) == (True, is_met)
    api.http.delete(made["links"]["self"])


def test_a_trial_shows_the_args_and_whether_they_fit(api: Api) -> None:
    made = make(
        api,
        type="trial.a",
        kind="test.flaky",
        args={"path": "join('/', ['tmp', data.name])", "times": "data.times"},
    )
    path = made["links"]["test"]
    event = {"type": "trial.a", "data": {"name": "x", "times": 3}}
    assert api.http.post(path, json={"event": event}).json() == {
        "matches": True,
        "fits_type": True,
        "passes_filter": True,
        "args": {"path": "tmp/x", "times": 3},
        "valid": True,
        "errors": [],
    }
    misfit = {"type": "trial.b", "data": {"name": "x", "times": "many"}}
    trial = api.http.post(path, json={"event": misfit}).json()
    assert (trial["matches"], trial["valid"]) == (False, False)
    assert [error["pointer"] for error in trial["errors"]] == ["#/args/times"]
    wrong = api.http.post(path, json={"event": {"type": ""}})
    assert problem(wrong, 422, "validation-failed")["errors"][0]["pointer"] == "#/event/type"
    assert api.http.get("/v1/events", params={"type": "trial.*"}).json()["items"] == []


def test_a_member_that_is_not_found_is_left_out_so_that_the_default_counts(api: Api) -> None:
    make(api, type="default.a", args={"value": "data.missing"})
    (job_id,) = jobs_of(api, "default.a", {})
    assert api.job(job_id)["args"] == {}


def test_an_expression_that_makes_too_much_of_an_event_fails_for_itself(api: Api) -> None:
    make(api, type="bomb.a", args={"value": "[data]" + "|[@,@][]" * 100})
    response = api.http.post("/v1/events", json={"type": "bomb.a", "data": {}})
    (firing,) = response.json()["firings"]
    assert "too much" in firing["error"]["message"]


def test_a_new_trigger_meets_old_events_once_and_as_many_as_were_confirmed(api: Api) -> None:
    def publish(number: int) -> str:
        event = {"type": "replay.a", "data": {"id": number}}
        return str(api.http.post("/v1/events", json=event).json()["id"])

    make(api, type="replay.a", filter={"data.id": 0})
    events = [publish(number) for number in range(4)]
    other = api.http.get(f"/v1/events/{events[0]}").json()
    assert len(other["jobs"]) == 1
    made = make(api, type="replay.*", filter={"data.id": {"in": [0, 1, 2, 5]}})
    path = made["links"]["replay"]
    found = api.http.post(path, json={}).json()
    assert found["count"] == 3
    assert [each["id"] for each in found["sample"]] == events[:3]
    assert found["sample"][0]["jobs"] == other["jobs"]  # what it has made is told, as everywhere
    second = api.http.get(f"/v1/events/{events[1]}").json()["received_at"]
    assert api.http.post(path, json={"received_after": second}).json()["count"] == 1
    refused = problem(api.http.post(path, json={"confirm": 2}), 409, "count-differs")
    assert refused["count"] == 3
    assert api.http.get(f"/v1/events/{events[0]}").json() == other
    done = api.http.post(path, json={"confirm": 3})
    assert (done.status_code, done.json()) == (202, {"count": 3, "jobs": 3})
    (job_id,) = api.http.get(f"/v1/events/{events[2]}").json()["jobs"]
    assert api.job(job_id)["args"] == {"value": 2}
    publish(5)  # it has met the trigger when it came
    assert api.http.post(path, json={}).json() == {"count": 0, "sample": []}
    problem(api.http.post(path, json={"confirm": 3}), 409, "count-differs")


def test_what_did_not_fit_is_replayed_once_the_trigger_was_mended(api: Api) -> None:
    made = make(api, type="mend.a", kind="test.flaky", args={"path": "'x'", "times": "data.n"})
    event = api.http.post("/v1/events", json={"type": "mend.a", "data": {"n": "many"}}).json()
    assert event["jobs"] == []
    api.http.patch(made["links"]["self"], json={"args": {"path": "'x'", "times": 1}})
    assert api.http.post(made["links"]["replay"], json={"confirm": 1}).json()["jobs"] == 1
    (firing,) = api.http.get(event["links"]["self"]).json()["firings"]
    assert (firing["trigger_id"], firing["error"]) == (made["id"], None)
    assert firing["job_id"] is not None


def test_a_trigger_of_another_project_is_404(api: Api) -> None:
    made = make(api, type="mine.only")
    with api.client_of(project="other") as other:
        path = made["links"]["self"]
        problem(other.get(path), 404, "trigger-not-found")
        problem(other.patch(path, json={"enabled": False}), 404, "trigger-not-found")
        problem(other.delete(path), 404, "trigger-not-found")
        assert other.get("/v1/triggers").json()["items"] == []
    problem(api.http.get(f"/v1/triggers/{uuid4()}"), 404, "trigger-not-found")


def test_its_jobs_are_tied_as_a_submission_says(api: Api) -> None:
    ties: dict[str, Any] = {
        "unique": {"key": "{data.id}", "scope": "queued", "on_conflict": "return"},
        "concurrency": {"key": "tied", "limit": None},
        "webhook": {"url": "https://example.org/hooks"},
    }
    body = {"type": "tied.now", "kind": "test.echo", "args": {"value": "data.id"}, **ties}
    made = api.http.post("/v1/triggers", json=body).json()
    shown = {**ties, "webhook": {**ties["webhook"], "signed": False}}
    assert {name: made[name] for name in ties} == shown
    event = {"type": "tied.now", "data": {"id": "x-1"}}
    first, again = (api.http.post("/v1/events", json=event).json() for _ in range(2))
    assert first["jobs"] == again["jobs"]
    job = api.job(first["jobs"][0])
    assert (job["unique"]["key"], job["concurrency"]["key"]) == ("x-1", "tied")
    at = made["links"]["self"]
    assert api.http.patch(at, json={"unique": None}).json()["unique"] is None
    body["unique"] = {"key": "{nothing}"}
    problem(api.http.post("/v1/triggers", json=body), 422, "validation-failed")
