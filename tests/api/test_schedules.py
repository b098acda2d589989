"""Schedules over HTTP; what fires them is held in tests/jobs/schedules and tests/worker."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.schedules import answers
from lading import Schedule, testing
from lading.authoring import find_kind
from tests.api.serving import Api, problem
from tests.conftest import ROOT

CRON = {"cron": "0 7 * * 1-5", "timezone": "Europe/Berlin"}
ECHO = {"kind": "test.echo", "args": {"value": 1}}


def make(api: Api, **fields: Any) -> dict[str, Any]:
    when = {} if {"cron", "every", "at"} & fields.keys() else CRON
    response = api.http.post("/v1/schedules", json={"name": str(uuid4()), **ECHO, **when, **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    assert response.headers["location"] == made["links"]["self"]
    answers.Schedule.model_validate(made)
    return made


def change(api: Api, made: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = api.http.patch(made["links"]["self"], json=fields)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.json()
    return changed


def test_a_schedule_tells_when_in_words_and_times(api: Api) -> None:
    made = make(api, labels={"team": "a"})
    assert made["sentence"] == "At 07:00 on Monday through Friday"
    assert (made["state"], made["source"], made["timezone"]) == ("active", "api", "Europe/Berlin")
    assert len(made["next_times"]) == 5
    assert made["next_times"][0] == made["next_at"]
    assert api.http.get(made["links"]["self"]).json() == made


def test_an_interval_and_a_one_off(api: Api) -> None:
    interval = make(api, every=90, anchor="2026-01-01T00:00:00Z")
    first = datetime.fromisoformat(interval["next_at"])
    assert (first - datetime(2026, 1, 1, tzinfo=UTC)) % timedelta(seconds=90) == timedelta()
    once = make(api, at="2031-01-01T00:00:00+01:00")
    assert once["next_times"] == ["2030-12-31T23:00:00Z"]
    assert once["sentence"] == "Once, at 2030-12-31 23:00:00 UTC"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"cron": "61 * * * *"}, "#/cron"),
        ({"cron": "0 0 30 2 *"}, "#/cron"),
        ({**CRON, "timezone": "Mars/Olympus"}, "#/timezone"),
        ({"every": 5, "timezone": "Mars/Olympus"}, "#/timezone"),
        ({"every": 0.5}, "#/every"),
        ({}, "#"),
        ({**CRON, "every": 5}, "#"),
        ({**CRON, "anchor": "2026-01-01T00:00:00Z"}, "#/anchor"),
        ({**CRON, "kind": "no.such"}, "#/kind"),
        ({**CRON, "kind": "test.secret", "args": {}}, "#/args/user"),
        ({**CRON, "labels": {"lading.tick": "x"}}, "#/labels/lading.tick"),
        ({**CRON, "misfire": "never"}, "#/misfire"),
        ({**CRON, "misfire_max": 1001}, "#/misfire_max"),
        ({**CRON, "name": "@mine"}, "#/name"),
        ({**CRON, "whatever": 1}, "#/whatever"),
    ],
)
def test_what_does_not_fit_is_named(api: Api, fields: dict[str, Any], pointer: str) -> None:
    response = api.http.post("/v1/schedules", json={"name": str(uuid4()), **ECHO, **fields})
    found = problem(response, 422, "validation-failed")
    assert pointer in [each["pointer"] for each in found["errors"]]


def test_a_name_is_taken_once(api: Api) -> None:
    made, other = make(api), make(api)
    again = api.http.post("/v1/schedules", json={"name": made["name"], **ECHO, **CRON})
    problem(again, 409, "schedule-exists")
    renamed = api.http.patch(other["links"]["self"], json={"name": made["name"]})
    problem(renamed, 409, "schedule-exists")


def test_a_change_takes_another_form_and_leaves_the_rest(api: Api) -> None:
    made = make(api, priority=8, timeout=30)
    changed = change(api, made, every=60)
    assert (changed["cron"], changed["every"], changed["priority"]) == (None, 60, 8)
    assert changed["next_at"] != made["next_at"]
    assert changed["version"] == made["version"] + 1
    changed = change(api, made, timeout=None, args={"value": 2}, misfire="all", misfire_max=7)
    assert (changed["timeout"], changed["every"], changed["args"]) == (None, 60, {"value": 2})
    back = change(api, made, cron=made["cron"])
    assert (back["next_at"], back["anchor"]) == (made["next_at"], None)
    problem(api.http.patch(made["links"]["self"], json={"cron": None}), 422, "validation-failed")


def test_a_schedule_is_paused_resumed_and_deleted(api: Api) -> None:
    made = make(api)
    paused = api.http.post(made["links"]["pause"]).json()
    assert (paused["state"], len(paused["next_times"])) == ("paused", 5)
    assert api.http.post(made["links"]["resume"]).json()["state"] == "active"
    assert api.http.delete(made["links"]["self"]).status_code == 204
    problem(api.http.get(made["links"]["self"]), 404, "schedule-not-found")
    audited = api.http.get("/v1/audit", params={"target": made["id"]}).json()["items"]
    assert [each["action"].removeprefix("schedule.") for each in audited] == [
        *("delete", "resume", "pause", "create"),
    ]


def test_run_now_makes_a_job_of_the_schedule(api: Api) -> None:
    made = make(api, labels={"team": "a"})
    response = api.http.post(made["links"]["run_now"])
    assert response.status_code == 202
    job = response.json()
    assert (job["schedule_id"], job["state"], job["labels"]["team"]) == (made["id"], "queued", "a")
    assert datetime.fromisoformat(job["labels"]["lading.tick"]).utcoffset() is not None
    listed = api.http.get(made["links"]["jobs"]).json()["items"]
    assert [each["id"] for each in listed] == [job["id"]]
    [tick] = api.http.get(made["links"]["ticks"]).json()["items"]
    assert (tick["job_id"], tick["reason"]) == (job["id"], "run_now")
    assert api.http.get(made["links"]["self"]).json()["last_job_id"] == job["id"]


def test_lists_go_on_where_the_page_ended(api: Api) -> None:
    made = [make(api, kind="test.echo_io") for _ in range(3)]
    for _ in range(3):
        api.http.post(made[0]["links"]["run_now"])
    for path, query in (
        ("/v1/schedules", {"kind": "test.echo_io"}),
        (made[0]["links"]["ticks"], {}),
    ):
        whole = api.http.get(path, params=query).json()
        assert (len(whole["items"]), whole["next_cursor"]) == (3, None)
        first = api.http.get(path, params={**query, "limit": 2}).json()
        rest = api.http.get(path, params={**query, "limit": 2, "cursor": first["next_cursor"]})
        assert first["items"] + rest.json()["items"] == whole["items"]
        assert rest.json()["next_cursor"] is None
        problem(api.http.get(path, params={**query, "cursor": "x"}), 422, "validation-failed")


def test_other_projects_and_lesser_keys_see_and_do_nothing(api: Api) -> None:
    made = make(api)
    with api.client_of(project="another") as other:
        problem(other.get(made["links"]["self"]), 404, "schedule-not-found")
        problem(other.post(made["links"]["run_now"]), 404, "schedule-not-found")
        assert other.get("/v1/schedules").json()["items"] == []
    with api.client_of(scopes=["jobs:read", "jobs:write"]) as reader:
        assert reader.get(made["links"]["self"]).status_code == 200
        problem(reader.post(made["links"]["pause"]), 403, "insufficient-scope")


def test_the_how_to_does_what_it_says(api: Api) -> None:
    page = (ROOT / "docs/how-to/schedules.md").read_text()
    bodies = re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(bodies) == 3
    for body in bodies:
        assert api.http.post("/v1/schedules", json=json.loads(body)).status_code == 201
    _, *python = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec("\n".join(python), names)
    assert testing.run(names["count"], names["plan"].args).result == "counted eu"
    kind = find_kind(names["report"])
    assert kind is not None
    assert kind.schedule == Schedule(cron="0 7 * * 1-5", timezone="Europe/Berlin")
    labels = {"lading.tick": "2026-11-23T07:00:00+01:00"}
    run = testing.run(names["report"], {}, labels=labels)
    assert run.result == "the report of Monday, 2026-11-23"


def test_its_jobs_are_tied_as_a_submission_says(api: Api) -> None:
    key = f"u-{uuid4()}"
    ties: dict[str, Any] = {
        "unique": {"key": key, "scope": "active", "on_conflict": "reject"},
        "concurrency": {"key": "tenant-7", "limit": 2},
        "webhook": {"url": "https://example.org/hooks"},
    }
    made = make(api, **ties)
    shown = {**ties, "webhook": {**ties["webhook"], "signed": False}}
    assert {name: made[name] for name in ties} == shown
    job = api.http.post(made["links"]["run_now"]).json()
    assert (job["unique"]["key"], job["concurrency"]) == (
        ties["unique"]["key"],
        ties["concurrency"],
    )
    refused = api.http.post(made["links"]["run_now"])
    assert problem(refused, 409, "unique-conflict")["job_id"] == job["id"]
    kept = change(api, made, unique={"key": key, "on_conflict": "return"})
    assert kept["concurrency"] == ties["concurrency"]
    again = api.http.post(made["links"]["run_now"])
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    freed = change(api, made, unique=None, concurrency=None, webhook=None)
    assert [freed[name] for name in ties] == [None, None, None]
    wrong = {"name": "x", **ECHO, **CRON, "webhook": {"url": "https://a.b", "secret": "whsec_x"}}
    problem(api.http.post("/v1/schedules", json=wrong), 422, "validation-failed")
    plain = {"name": "x", **ECHO, **CRON, "webhook": {"url": "http://a.b"}}
    problem(api.http.post("/v1/schedules", json=plain), 422, "validation-failed")
