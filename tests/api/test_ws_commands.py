"""Commands over the socket are REST calls by another way: same answers, same refusals."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from tests.api.serving import Api
from tests.api.speaking import Frame, speaking
from tests.api.working import fail, start, succeed

NEW: dict[str, Any] = {"kind": "test.echo", "args": {}}


def without_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


def test_a_job_is_submitted_followed_and_cancelled_on_one_socket(api: Api) -> None:
    with speaking(api) as client:
        made = client.command("job.submit", kind="test.echo", args={}, labels={"a": "b"})
        job = made["body"]
        assert (made["status"], job["state"], job["labels"]) == (202, "queued", {"a": "b"})
        assert api.job(job["id"]) == job
        assert client.follow(job["id"])["snapshot"] == job
        assert client.receive("event")["event"]["type"] == "created"
        client.say("command", id="c", op="job.cancel", body={"job_id": job["id"], "reason": "no"})
        answers = {frame["type"]: frame for frame in (client.receive(), client.receive())}
        assert answers["result"]["status"] == 202
        assert answers["result"]["body"]["state"] == "cancelled"
        assert answers["event"]["event"]["data"] == {"reason": "no"}
        again = client.command("job.cancel", job_id=job["id"])
        assert (again["status"], again["body"]["state"]) == (200, "cancelled")
        client.say("command", id="r", op="job.retry", body={"job_id": job["id"]})
        answers = {frame["type"]: frame for frame in (client.receive(), client.receive())}
        assert answers["result"]["status"] == 202
        assert answers["result"]["body"]["state"] == "queued"
        assert answers["event"]["event"]["type"] == "queued"


def test_the_same_key_submits_once_whichever_way_it_came(api: Api) -> None:
    key = f"order {uuid4()}"
    headers = {"Idempotency-Key": key}
    with speaking(api) as client:
        first = client.command("job.submit", key, **NEW)["body"]["id"]
        assert client.command("job.submit", key, **NEW)["body"]["id"] == first
        assert api.http.post("/v1/jobs", json=NEW, headers=headers).json()["id"] == first
        other = client.command("job.submit", key, kind="test.echo", args={"x": 1})
        assert other["problem"]["code"] == "idempotency-key-reused"
    with speaking(api) as client:
        assert client.command("job.submit", key, **NEW)["body"]["id"] == first


def test_two_of_the_same_key_at_once_are_one_job(api: Api) -> None:
    key = str(uuid4())
    with speaking(api) as client:
        for number in range(10):
            fields = {"op": "job.submit", "idempotency_key": key, "body": NEW}
            client.say("command", id=str(number), **fields)
        answers = [client.receive("result") for _ in range(10)]
    assert sorted(each["id"] for each in answers) == sorted(str(number) for number in range(10))
    assert len({each["body"]["id"] for each in answers}) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "nobody.knows", "args": {}},
        {"kind": "test.echo", "args": 7},
        {"kind": "test.echo", "args": {}, "colour": "red"},
        {"kind": "test.echo", "args": {}, "priority": 10},
        {"kind": "test.echo", "args": {}, "run_at": "2026-01-01T00:00:00Z", "delay": 1},
        {"kind": "test.echo", "args": {}, "labels": {"x": "\0"}},
    ],
    ids=range(7),
)
def test_what_rest_refuses_is_refused_in_the_same_words(api: Api, body: dict[str, Any]) -> None:
    with speaking(api) as client:
        answer = client.command("job.submit", **body)
    assert answer["type"] == "error"
    said = api.http.post("/v1/jobs", json=body).json()
    assert without_id(answer["problem"]) == without_id(said)


def test_moves_that_are_not_possible_are_refused_like_there(api: Api, engine: Engine) -> None:
    done, failed, running = (api.submit()["id"] for _ in range(3))
    succeed(engine, done)
    fail(engine, failed)
    start(engine, running)

    def compare(client_answer: Frame, path: str) -> None:
        said = api.http.post(path).json()
        assert without_id(client_answer["problem"]) == without_id(said)

    with speaking(api) as client:
        compare(client.command("job.cancel", job_id=done), f"/v1/jobs/{done}/cancel")
        compare(client.command("job.retry", job_id=running), f"/v1/jobs/{running}/retry")
        for unknown in (str(uuid4()), "nonsense"):
            compare(client.command("job.retry", job_id=unknown), f"/v1/jobs/{unknown}/retry")
        assert client.command("job.cancel")["problem"]["code"] == "validation-failed"
        assert client.command("job.retry", job_id=failed)["body"]["state"] == "queued"
        asked = client.command("job.cancel", job_id=running)
        assert (asked["status"], asked["body"]["cancel_requested"]) == (202, True)


def test_keys_are_what_a_header_could_hold(api: Api) -> None:
    with speaking(api) as client:
        for key in ("", "x" * 256, "ü", "a\nb"):
            assert (
                client.command("job.submit", key, **NEW)["problem"]["code"] == "validation-failed"
            )
        assert client.command("job.submit", "x" * 255, **NEW)["type"] == "result"


def test_an_event_is_published_as_over_rest(api: Api) -> None:
    body: dict[str, Any] = {"type": "user.created", "id": str(uuid4()), "data": {}}
    with speaking(api) as client:
        first = client.command("event.publish", **body)
        assert (first["status"], first["body"]["event"]["type"]) == (202, "user.created")
        again = client.command("event.publish", **body)
        assert (again["status"], again["body"]) == (200, first["body"])
        assert api.http.post("/v1/events", json=body).json() == first["body"]
        wrong = client.command("event.publish", type="")
        assert wrong["problem"]["code"] == "validation-failed"
