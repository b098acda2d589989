"""A job's history over HTTP: a list, or Server-Sent Events."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import Engine

from api import sse
from api.streams import PAGE, wants_stream
from jobs.hints import Hints
from tests.api.listening import Sent, event_stream, following, sent
from tests.api.serving import Api, problem
from tests.api.stories import Story, telling
from tests.eventually import eventually

EVENT_STREAM = "text/event-stream"


@pytest.fixture
def story(engine: Engine, hints: Hints) -> Story:
    return Story(engine, hints)


@pytest.fixture(scope="module")
def hints(api: Api) -> Any:
    with telling(api.settings.broker_url.get_secret_value()) as sender:
        yield sender


def listed(api: Api, job_id: UUID, after: int = 0) -> list[dict[str, Any]]:
    response = api.http.get(f"/v1/jobs/{job_id}/events", params={"after": after})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def as_sent(events: list[dict[str, Any]]) -> list[Sent]:
    return [Sent(str(event["seq"]), event["type"], event) for event in events]


def test_a_list_goes_on_after_every_seq(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 2, "half \u2028 way")
    story.log(job_id, "one", "two")
    events = listed(api, job_id)
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert events[1].keys() == {"job_id", "seq", "type", "at", "attempt", "data"}
    assert events[2]["data"] == {"fraction": 0.5, "message": "half \u2028 way"}
    assert events[2]["job_id"] == str(job_id)
    assert events[2]["at"].endswith("Z")
    for after in range(6):
        assert listed(api, job_id, after) == events[after:]


def test_a_long_history_is_listed_whole(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, PAGE + 10)
    story.log(job_id, "x" * 200_000)  # more than is read at a time
    story.progress(job_id, 1)
    events = listed(api, job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) == api.job(str(job_id))["seq"] > PAGE + 10


def test_a_stream_is_history_and_then_what_happens(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 2)
    with event_stream(api, str(job_id)) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(EVENT_STREAM)
        assert response.headers["cache-control"] == "no-cache"
        events = sent(response)
        got = [next(events) for _ in range(3)]
        story.progress(job_id, 1, "line\nbreak")
        got.append(next(events))
        story.log(job_id, "x" * 5000)
        story.succeed(job_id)
        got.extend(events)
    assert got == as_sent(listed(api, job_id))
    assert got[-1].event == "succeeded"


def test_a_stream_resumes_after_every_seq(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 3)
    story.fail(job_id)
    for after in range(5):
        expected = as_sent(listed(api, job_id, after))
        for place in ({"after": after}, {"Last-Event-ID": str(after)}):
            with event_stream(api, str(job_id), **place) as response:
                assert [*sent(response)] == expected


def test_the_header_of_an_event_source_is_newer_than_its_address(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.fail(job_id)
    story.retry(job_id)
    story.start(job_id, 2)
    story.succeed(job_id, 2)
    with event_stream(api, str(job_id), 1, **{"Last-Event-ID": "3"}) as response:
        assert [event.id for event in sent(response)] == ["4", "5"]


@pytest.mark.parametrize("after", [2, 3, 2**31 - 1])
def test_with_nothing_left_an_event_source_is_told_to_stop(
    api: Api, story: Story, after: int
) -> None:
    job_id = story.begin()
    story.succeed(job_id)
    with event_stream(api, str(job_id), after) as response:
        assert response.status_code == 204
        assert response.read() == b""


def test_a_final_event_before_a_retry_ends_no_stream(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.fail(job_id)
    story.retry(job_id)
    with event_stream(api, str(job_id), 0) as response:
        events = sent(response)
        got = [next(events).event for _ in range(3)]
        story.start(job_id, 2)
        story.succeed(job_id, 2)
        got.extend(event.event for event in events)
    assert got == ["created", "failed", "queued", "started", "succeeded"]


@pytest.mark.parametrize("accept", ["application/json", EVENT_STREAM])
def test_refusals_come_before_anything_else(api: Api, story: Story, accept: str) -> None:
    job_id = story.begin()
    path, headers = f"/v1/jobs/{job_id}/events", {"Accept": accept}
    for unknown in (uuid4(), "nonsense"):
        response = api.http.get(f"/v1/jobs/{unknown}/events", headers=headers)
        problem(response, 404, "job-not-found")
    for after in ("-1", "x", "", str(2**31), "1.5"):
        response = api.http.get(path, params={"after": after}, headers=headers)
        (flaw,) = problem(response, 422, "validation-failed")["errors"]
        assert (flaw["pointer"], flaw["in"]) == ("#/after", "query")
    for last in ("-1", "x", str(2**31)):
        response = api.http.get(path, headers={**headers, "Last-Event-ID": last})
        (flaw,) = problem(response, 422, "validation-failed")["errors"]
        assert flaw["in"] == "header"
    problem(api.http.get(path, params={"before": 1}, headers=headers), 422, "validation-failed")
    problem(httpx2.get(f"{api.url}{path}", headers=headers, timeout=40), 401, "unauthenticated")


def test_silence_is_broken_by_a_comment(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE", 0.1)
    with event_stream(api, str(story.begin()), 1) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(6)] == ["retry: 2000", "", ": ping", "", ": ping", ""]


def test_a_client_that_leaves_is_forgotten_at_once(api: Api, story: Story) -> None:
    job_id = story.begin()
    with event_stream(api, str(job_id), 0) as response:
        events = sent(response)
        assert next(events).event == "created"
        assert following(api) == 1
    eventually(lambda: following(api) == 0)


def test_a_client_that_takes_nothing_is_let_go(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "STALLED", 0.2)
    job_id = story.begin()
    with event_stream(api, str(job_id), 0):
        for _ in range(4):  # more than the system keeps on the way
            story.log(job_id, "x" * 5_000_000)
        eventually(lambda: following(api) == 0, within=30)


def test_only_the_head_of_a_stream_is_sent_to_who_asks_for_that(api: Api, story: Story) -> None:
    path = f"/v1/jobs/{story.begin()}/events"
    response = api.http.head(path, headers={"Accept": EVENT_STREAM})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].startswith(EVENT_STREAM)
    eventually(lambda: following(api) == 0)


def test_idle_streams_leave_connections_to_requests(api: Api, story: Story) -> None:
    """More streams than the pool has connections."""
    streams, job_id = 30, story.begin()
    with ThreadPoolExecutor(streams) as pool:

        def stream(_: int) -> list[str]:
            with event_stream(api, str(job_id), 1) as response:
                return [event.event for event in sent(response)]

        reading = [pool.submit(stream, number) for number in range(streams)]
        eventually(lambda: following(api) == streams)
        for _ in range(20):
            assert api.job(str(job_id))["state"] == "running"
        story.succeed(job_id)
        assert [each.result(30) for each in reading] == [["succeeded"]] * streams


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/event-stream, */*;q=0.1", True),
        ("application/json, text/event-stream", True),
        ("application/json, text/event-stream;q=0.9", False),
        ("application/json;q=0.5, text/event-stream;q=0.9", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("text/*", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
        (";;,,", False),
    ],
)
def test_only_who_asks_for_a_stream_gets_one(accept: str, stream: bool) -> None:
    assert wants_stream(accept) == stream


def test_the_document_tells_of_both_forms(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    operation = document["paths"]["/v1/jobs/{job_id}/events"]["get"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", EVENT_STREAM}
    told = {"200", "204", "401", "403", "404", "422", "429", "500", "503"}
    assert set(operation["responses"]) == told
    assert {each["name"] for each in operation["parameters"]} == {
        "job_id",
        "after",
        "Last-Event-ID",
    }
    types = document["components"]["schemas"]["EventType"]["enum"]
    assert {"created", "queued", "progress", "crashed", "cancel_requested", "failed"} <= {*types}
    assert json.dumps(document).count("bye")
