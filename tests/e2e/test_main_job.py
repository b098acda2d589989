"""The main job of Lading, through real processes: submit, run, poll, stream, watch."""

import csv
import io
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from websockets.sync.client import connect

import lading
from tests.api.listening import sent
from tests.conftest import ROOT
from tests.e2e.platform import Platform
from tests.eventually import eventually

DATA = ROOT / "tests/data"
FINAL = {"succeeded", "failed", "cancelled"}


def follow(platform: Platform, job_id: str, after: int = 0) -> list[dict[str, Any]]:
    """Every event that the WebSocket brings until it closes."""
    dev = platform.dev
    url = dev["api"].replace("http://", "ws://")
    headers = {"Authorization": f"Bearer {dev['key']}"}
    with connect(
        f"{url}/v1/jobs/{job_id}/ws?after={after}", additional_headers=headers, proxy=None
    ) as socket:
        return [json.loads(frame) for frame in socket]


def seen_in_flower(platform: Platform, task_id: str) -> dict[str, Any] | None:
    user, _, password = platform.dev["flower_auth"].partition(":")
    answer = httpx2.get(
        f"{platform.dev['flower']}/api/task/info/{task_id}", auth=(user, password), timeout=40
    )
    if answer.status_code != 200:
        return None
    task: dict[str, Any] = answer.json()
    return task


def test_a_mail_arrives_with_the_right_bytes(platform: Platform) -> None:
    args = {"to": ["Ann <ann@example.org>"], "template": "welcome", "variables": {"name": "Änn"}}
    job = platform.run("email.send", args)
    assert job["state"] == "succeeded", job
    assert job["result"]["accepted"] == ["ann@example.org"]
    mails = httpx2.get(f"{platform.dev['mail']}/messages", timeout=40).json()
    (mail,) = [m for m in mails if m["message_id"] == job["result"]["message_id"]]
    assert mail["to"] == ["Ann <ann@example.org>"] or "ann@example.org" in str(mail["to"])
    assert "Änn" in mail["text"]
    assert job["id"] in mail["message_id"]


def test_an_attempt_is_seen_in_flower_under_its_kinds_name(platform: Platform) -> None:
    def watched() -> dict[str, Any] | None:  # Flower asks for events every few seconds
        job = platform.run("test.echo", {"value": 1})
        assert job["links"]["flower"].endswith(f"/task/{job['id']}:1")
        return seen_in_flower(platform, f"{job['id']}:1")

    task = eventually(watched, within=60, every=1)
    assert task is not None
    assert task["name"] == "test.echo"


def test_a_query_over_real_data_gives_the_known_answer(platform: Platform) -> None:
    airports = platform.upload(DATA / "airports.csv")
    weather = platform.upload(next(DATA.glob("weather.csv*")))
    args = {
        "inputs": {"airports": airports, "weather": weather},
        "sql": "SELECT w.origin, a.name, count(*) AS hours FROM weather w"
        " JOIN airports a ON a.faa = w.origin GROUP BY w.origin, a.name ORDER BY w.origin",
        "format": "csv",
    }
    job = platform.run("data.transform", args)
    assert job["state"] == "succeeded", job
    assert job["result"]["rows_in"] == {"airports": 1458, "weather": 26115}
    with platform.client() as client:
        answer = client.get(f"/v1/files/{job['result']['file_id']}/content")
    rows = [*csv.DictReader(io.StringIO(answer.text))]
    assert [(row["origin"], row["hours"]) for row in rows] == [
        ("EWR", "8703"),
        ("JFK", "8706"),
        ("LGA", "8706"),
    ]
    assert rows[1]["name"] == "John F Kennedy Intl"


def test_a_bad_query_fails_at_once_with_the_columns_name(platform: Platform) -> None:
    inputs = {"airports": platform.upload(DATA / "airports.csv")}
    args = {"inputs": inputs, "sql": "SELECT altitude FROM airports", "format": "csv"}
    job = platform.run("data.transform", args)
    assert (job["state"], job["attempt"], job["error"]["cause"]) == ("failed", 1, "fail")
    assert "altitude" in job["error"]["message"]


def test_a_websocket_brings_every_event_in_order(platform: Platform) -> None:
    job_id = platform.submit("test.talks", {"value": 7})["id"]
    events = follow(platform, job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    types = [event["type"] for event in events]
    assert (types[0], types[1], types[-1]) == ("created", "started", "succeeded")
    assert {"progress", "log"} <= set(types)
    assert follow(platform, job_id, after=2) == events[2:]
    with platform.client() as client:
        assert client.get(f"/v1/jobs/{job_id}/events").json()["items"] == events


def test_a_job_that_fails_is_tried_again(platform: Platform, tmp_path: Path) -> None:
    job = platform.run("test.flaky", {"times": 2, "path": str(tmp_path / "starts")})
    assert (job["state"], job["attempt"], job["failures"]) == ("succeeded", 3, 2)
    with platform.client() as client:
        attempts = client.get(f"/v1/jobs/{job['id']}/attempts").json()["items"]
    assert [a["outcome"] for a in attempts] == ["retried", "retried", "succeeded"]


def test_an_unknown_id_is_not_found(platform: Platform) -> None:
    with platform.client() as client:
        answer = client.get("/v1/jobs/01980000-0000-7000-8000-000000000000")
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_bad_args_are_refused_with_a_pointer(platform: Platform) -> None:
    with platform.client() as client:
        bad = {"kind": "email.send", "args": {"to": ["not an address"], "text": "x"}}
        answer = client.post("/v1/jobs", json=bad)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("#/args/to")


def test_the_same_key_twice_makes_one_job(platform: Platform) -> None:
    body = {"kind": "test.echo", "args": {"value": 1}}
    headers = {"Idempotency-Key": "e2e-once"}
    with platform.client() as client:
        first, again = (client.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"


def test_a_request_can_wait_for_its_job(platform: Platform) -> None:
    with platform.client() as client:
        answer = client.post(
            "/v1/jobs",
            json={"kind": "test.echo_io", "args": {"value": [1]}},
            headers={"Prefer": "wait=20"},
        )
    assert (answer.status_code, answer.json()["result"]) == (200, [1])


@pytest.mark.parametrize("kind", ["test.waits", "test.waits_io"])
def test_a_running_job_can_be_cancelled(platform: Platform, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "starts"
    job_id = platform.submit(kind, {"path": str(path), "seconds": 60})["id"]
    eventually(path.exists, within=30)
    with platform.client() as client:
        answer = client.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "enough"})
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    assert platform.finished(job_id)["state"] == "cancelled"


def told_in_docs() -> list[dict[str, Any]]:
    """The trigger and the event of docs/how-to/react-to-events.md, as a shell would send them."""
    text = (ROOT / "docs/how-to/react-to-events.md").read_text()
    bodies = re.findall(r"-d '(\{.*?\n  \})'", text, re.DOTALL)
    return [json.loads(body.replace("'\"'", "'")) for body in bodies]


def made_jobs(client: httpx2.Client, event: dict[str, Any]) -> list[str]:
    jobs: list[str] = client.get(event["links"]["self"]).json()["jobs"]
    return jobs


def test_events_are_live_wherever_they_were_published(platform: Platform) -> None:
    """Over REST, and from within a transaction of somebody's own, which a dispatcher takes up."""
    trigger = {"type": "live.*", "kind": "test.echo", "args": {"value": "data.value"}}
    stream = ("GET", "/v1/events/stream?types=live.*")
    with platform.client() as client, psycopg.connect(platform.dev["database_url"]) as database:
        assert client.post("/v1/triggers", json=trigger).status_code == 201
        with client.stream(
            *stream, headers={"Accept": "text/event-stream"}, timeout=14
        ) as response:
            messages = sent(response)
            assert next(messages).event == "subscribed"
            client.post("/v1/events", json={"type": "live.rest", "data": {"value": 1}})
            lading.publish(database, "live.sql", {"value": 2}, id="17")
            lading.publish(database, "live.sql", {"value": 3}, id="17")
            database.commit()
            live = [next(messages).data for _ in range(2)]
        assert [each["event"]["type"] for each in live] == ["live.rest", "live.sql"]
        for number, each in enumerate(live, 1):
            (job_id,) = eventually(partial(made_jobs, client, each), within=30)
            assert platform.finished(job_id)["args"] == {"value": number}


def test_an_event_sends_the_welcome_mail_once(platform: Platform) -> None:
    """And the mail's end is an event that makes another job."""
    welcome, ada = told_in_docs()
    follow_up = {
        "type": "job.succeeded",
        "kind": "test.echo",
        "filter": {"data.labels.mail": "welcome"},
        "args": {"value": "data.result.message_id"},
    }
    with platform.client() as client:
        for trigger in ({**welcome, "labels": {"mail": "welcome"}}, follow_up):
            assert client.post("/v1/triggers", json=trigger).status_code == 201
        first, again = (client.post("/v1/events", json=ada) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json() == again.json()
        (job_id,) = first.json()["jobs"]
        types = [event["type"] for event in follow(platform, job_id)]
        assert (types[0], types[-1]) == ("created", "succeeded")
        asked = {"type": "job.*", "source": f"/lading/jobs/{job_id}"}
        (fact,) = eventually(
            lambda: client.get("/v1/events", params=asked).json()["items"], within=30
        )
        echo = platform.finished(fact["jobs"][0])
    message_id = platform.finished(job_id)["result"]["message_id"]
    assert echo["args"] == {"value": message_id}
    mails = httpx2.get(f"{platform.dev['mail']}/messages", timeout=40).json()
    (mail,) = [mail for mail in mails if "ada@example.com" in str(mail["to"])]
    assert mail["message_id"] == message_id
    assert "Ada" in mail["text"]
