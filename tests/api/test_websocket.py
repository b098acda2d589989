"""A job's history over a WebSocket."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete
from sqlmodel import col
from websockets.exceptions import InvalidStatus

from api import websocket
from jobs.hints import Hints
from jobs.models import Job
from tests.api.listening import following, frames, web_socket
from tests.api.serving import Api, new_key
from tests.api.stories import Story, telling
from tests.eventually import eventually

BROWSER = {"origin": "https://console.example"}
MISFITS = ["?after=-1", "?after=x", "?after=", f"?after={2**31}", "?before=1"]


@pytest.fixture(scope="module")
def hints(api: Api) -> Iterator[Hints]:
    with telling(api.settings.broker_url.get_secret_value()) as sender:
        yield sender


@pytest.fixture
def story(engine: Engine, hints: Hints) -> Story:
    return Story(engine, hints)


def listed(api: Api, job_id: UUID, after: int = 0) -> Any:
    return api.http.get(f"/v1/jobs/{job_id}/events", params={"after": after}).json()["items"]


def test_frames_are_history_and_then_what_happens(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 2, "half \u2028 way")
    with web_socket(api, str(job_id)) as socket:
        first = socket.recv(timeout=30)
        assert isinstance(first, str), "text frames"
        story.progress(job_id)
        story.log(job_id, "x" * 5000)
        story.succeed(job_id)
        rest, code = frames(socket)
    events = listed(api, job_id)
    assert (rest, code) == (events[1:], 1000)
    assert events[-1]["type"] == "succeeded"


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_frames_resume_after_every_seq(api: Api, story: Story, end: str) -> None:
    job_id = story.begin()
    story.progress(job_id, 3)
    getattr(story, end)(job_id)
    for after in range(7):
        with web_socket(api, str(job_id), f"?after={after}") as socket:
            assert frames(socket) == (listed(api, job_id, after), 1000)


def test_what_a_client_says_is_dropped(api: Api, story: Story) -> None:
    job_id = story.begin()
    with web_socket(api, str(job_id), "?after=1") as socket:
        for _ in range(50):
            socket.send("{}")
            socket.send(b"\x00" * 1000)
        story.succeed(job_id)
        assert frames(socket) == (listed(api, job_id, 1), 1000)


def test_a_client_that_leaves_is_forgotten_at_once(api: Api, story: Story) -> None:
    job_id = story.begin()
    for leave in ("close", "vanish"):
        with web_socket(api, str(job_id)) as socket:
            socket.recv(timeout=30)
            assert following(api) == 1
            if leave == "vanish":
                socket.socket.close()
        eventually(lambda: following(api) == 0)


def test_a_client_that_takes_nothing_is_let_go(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "STALLED", 0.2)
    job_id = story.begin()
    with web_socket(api, str(job_id), max_queue=1) as socket:
        socket.recv(timeout=30)
        for _ in range(4):  # more than the system keeps on the way
            story.log(job_id, "x" * 5_000_000)
        eventually(lambda: following(api) == 0, within=30)


def test_a_job_that_is_deleted_closes_its_sockets(api: Api, story: Story) -> None:
    job_id = story.begin()
    with web_socket(api, str(job_id), "?after=1") as socket:
        with story.engine.begin() as connection:
            connection.execute(delete(Job).where(col(Job.id) == job_id))
        assert frames(socket) == ([], 4404)


@pytest.mark.parametrize("job_id", ["01a20061-e489-7b55-8701-8624154f2d0f", "nonsense"])
def test_a_job_that_is_not_there_cannot_be_followed(api: Api, job_id: str) -> None:
    refused(api, job_id, status=404, code="job-not-found", close=4404)


def test_only_a_key_of_the_project_opens_a_socket(api: Api, story: Story) -> None:
    job_id = str(story.begin())
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        refused(api, job_id, status=401, code="unauthenticated", close=4401, headers=headers)
    other = {"Authorization": f"Bearer {new_key(api.settings, project='another')}"}
    refused(api, job_id, status=404, code="job-not-found", close=4404, headers=other)
    writer = {"Authorization": f"Bearer {new_key(api.settings, scopes=['jobs:write'])}"}
    refused(api, job_id, status=403, code="insufficient-scope", close=4403, headers=writer)


@pytest.mark.parametrize("query", MISFITS)
def test_what_cannot_be_resumed_is_refused(api: Api, story: Story, query: str) -> None:
    job_id = str(story.begin())
    refused(api, job_id, query, status=422, code="validation-failed", close=4400)


def refused(
    api: Api, job_id: str, query: str = "", *, status: int, code: str, close: int, **options: Any
) -> None:
    """By HTTP for programs, by a close code for browsers, which cannot see that."""
    with pytest.raises(InvalidStatus) as error, web_socket(api, job_id, query, **options):
        pass
    response = error.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert f'"code":"{code}"'.encode() in (response.body or b"")
    with web_socket(api, job_id, query, **options, **BROWSER) as socket:
        assert frames(socket) == ([], close)
        assert socket.close_reason == code
    assert following(api) == 0
