"""One socket: its handshake, its frames, its limits and its end."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api import sockets
from api.ws import session
from jobs.keys.limits import KeyLimits
from jobs.settings import Settings
from jobs.views import EventView
from tests.api.listening import frames
from tests.api.serving import Api, new_key, serve
from tests.api.speaking import Client, ends, raw_socket, speaking
from tests.api.stories import Story
from tests.conftest import ROOT
from tests.eventually import eventually

PAGE = "https://elsewhere.example"


def key_of(api: Api, **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key(api.settings, **options)}"}


def own_origin(api: Api) -> str:
    return api.url


def test_a_client_is_welcomed(api: Api) -> None:
    with speaking(api) as client:
        assert client.welcome["limits"] == {
            "frame_bytes": 65536,
            "connections": api.settings.sockets_per_key,
            "subscriptions": 100,
            "commands_per_second": 50,
            "commands_at_once": 100,
        }
        assert client.is_silent()
    eventually(lambda: len(api.parts.sockets) == 0)


@pytest.mark.parametrize("t", [None, 7, 1.5, "x", [{}], {"a": None}])
def test_a_ping_is_answered_with_what_it_brought(api: Api, t: Any) -> None:
    with speaking(api) as client:
        client.say("ping", t=t, unknown="field")
        assert client.receive() == {"type": "pong", "t": t}


def refused(api: Api, *names: str, status: int, code: str, close: int, **options: Any) -> None:
    """By HTTP for programs, by a close code for browsers, which cannot see that."""
    with pytest.raises(InvalidStatus) as error, raw_socket(api, *names, **options):
        pass
    response = error.value.response
    assert (response.status_code, json.loads(response.body or b"")["code"]) == (status, code)
    with raw_socket(api, *names, **options, origin=own_origin(api)) as socket:
        assert frames(socket) == ([], close)
        assert socket.close_reason == code


def test_only_a_good_key_opens_a_socket(api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        refused(api, status=401, code="unauthenticated", close=4401, headers=headers)
    other = key_of(api, scopes=["metrics:read"])
    refused(api, status=403, code="insufficient-scope", close=4403, headers=other)
    refused(api, "lading.v2", status=400, code="bad-request", close=4400)


def test_pages_of_other_origins_are_turned_away_where_they_can_see_it(api: Api) -> None:
    for origin in (PAGE, "null", own_origin(api) + "0", "https" + own_origin(api)[4:] + ".example"):
        with raw_socket(api, origin=origin) as socket:
            assert frames(socket) == ([], 4403)
            assert socket.close_reason == "origin-not-allowed"
    with speaking(api, origin=own_origin(api)) as client:
        assert client.is_silent()


def test_origins_may_be_allowed(settings: Settings) -> None:
    with serve(settings, allowed_origins=(PAGE,)) as api, speaking(api, origin=PAGE) as client:
        assert client.is_silent()


@pytest.mark.parametrize(
    "frame",
    [
        *("", "7", "[]", "{}", '{"type": 7}', "nonsense", "[" * 60000),
        *('{"type": "ping", "t": NaN}', '{"type": "ping", "t": "\\ud800"}'),
        *(b"\x00" * 10, json.dumps({"type": "x" * 65536})),
    ],
    ids=range(11),
)
def test_a_bad_frame_closes_the_socket(api: Api, frame: str | bytes) -> None:
    with speaking(api) as client:
        client.socket.send(frame)
        assert client.rest() == ([], 4400)


def test_a_frame_of_a_mebibyte_is_closed_as_what_it_is(api: Api) -> None:
    with speaking(api) as client:
        client.socket.send(json.dumps({"type": "ping", "t": "x" * 1024 * 1024}))
        assert client.rest() == ([], 4400)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "dance", "id": "d"}, "bad-request"),
        ({"type": "welcome"}, "bad-request"),
        ({"type": "subscribe", "id": "d"}, "validation-failed"),
        ({"type": "subscribe", "stream": "jobs"}, "validation-failed"),
        ({"type": "subscribe", "id": "", "stream": "jobs"}, "validation-failed"),
        ({"type": "subscribe", "id": "d" * 65, "stream": "jobs"}, "validation-failed"),
        ({"type": "subscribe", "id": "d", "stream": "queues"}, "validation-failed"),
        ({"type": "subscribe", "id": "d", "stream": "job:7"}, "validation-failed"),
        ({"type": "subscribe", "id": "d", "stream": f"job:{uuid4()}"}, "job-not-found"),
        (
            {"type": "subscribe", "id": "d", "stream": f"job:{uuid4()}", "after": {"seq": -1}},
            "validation-failed",
        ),
        (
            {"type": "subscribe", "id": "d", "stream": "jobs", "filter": {"colour": "red"}},
            "validation-failed",
        ),
        (
            {"type": "subscribe", "id": "d", "stream": "jobs", "filter": {"state": "lost"}},
            "validation-failed",
        ),
        (
            {"type": "subscribe", "id": "d", "stream": "jobs", "after": {"position": "7"}},
            "validation-failed",
        ),
        ({"type": "unsubscribe"}, "validation-failed"),
        ({"type": "command", "id": "d", "op": "job.dance", "body": {}}, "validation-failed"),
        ({"type": "command", "id": "d", "op": "job.submit"}, "validation-failed"),
    ],
    ids=range(16),
)
def test_a_frame_that_does_not_fit_is_answered_and_the_socket_goes_on(
    api: Api, frame: dict[str, Any], code: str
) -> None:
    with speaking(api) as client:
        client.socket.send(json.dumps(frame))
        answer = client.receive("error")
        id_ = frame.get("id")
        assert answer["id"] == (id_ if id_ is None or len(id_) <= 64 else None)
        assert answer["problem"]["code"] == code
        assert client.is_silent()


@pytest.mark.parametrize(
    ("stream", "asked", "pointers"),
    [
        ("jobs", {"state": "lost"}, {"#/filter/state"}),
        ("jobs", {"state": ["queued", "lost"]}, {"#/filter/state", "#/filter/state/1"}),
        ("jobs", {"kind": ["a"], "label": {"": "x"}}, {"#/filter/kind", "#/filter/label/"}),
        ("jobs", {"colour": "red"}, {"#/filter/colour"}),
        ("events", {"type": ["a", ""]}, {"#/filter/type", "#/filter/type/1"}),
        ("events", {"type": 7}, {"#/filter/type"}),
    ],
    ids=range(6),
)
def test_what_does_not_fit_is_shown_where_it_stands_in_the_frame(
    api: Api, stream: str, asked: dict[str, Any], pointers: set[str]
) -> None:
    with speaking(api) as client:
        client.say("subscribe", id="s", stream=stream, filter=asked)
        problem = client.receive("error")["problem"]
        assert {flaw["pointer"] for flaw in problem["errors"]} == pointers
        client.say("subscribe", id="s", stream=stream, after={})
        (flaw,) = client.receive("error")["problem"]["errors"]
        assert flaw["pointer"] == "#/after/position"


def test_a_refusal_is_no_error_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidStatus), raw_socket(api, headers={}):
        pass
    said = eventually(lambda: [each for each in caplog.records if each.levelname == "ERROR"])
    again = [f"logging.getLogger({each.name!r}).error({each.msg!r})" for each in said]
    code = ["import logging", "from api.logs import configure_logs", "configure_logs()", *again]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, "logging.error('heard')"])],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    )
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["heard"]


def test_a_subscription_more_than_allowed_closes_the_socket_and_no_other(
    api: Api, engine: Engine
) -> None:
    job_id = Story(engine).begin()
    with speaking(api) as neighbour, speaking(api) as client:
        neighbour.follow(job_id)
        for number in range(10_000):
            try:
                client.say("subscribe", id=str(number), stream=f"job:{job_id}")
            except ConnectionClosed:
                break
        *answers, error, bye = [frame for frame in client.rest()[0] if frame["type"] != "event"]
        assert (error["type"], error["problem"]["code"]) == ("error", "rate-limited")
        assert bye["code"] == client.socket.close_code == 4429
        assert len(answers) <= session.SUBSCRIPTIONS
        assert neighbour.receive("event")["event"]["type"] == "created"
        assert neighbour.is_silent()
    eventually(lambda: len(api.parts.sockets) == 0)


def test_an_id_is_taken_until_it_is_given_back(api: Api, engine: Engine) -> None:
    story = Story(engine)
    job_id = story.begin()
    with speaking(api) as client:
        client.follow(job_id, after=1)
        assert client.follow(job_id)["problem"]["code"] == "subscription-exists"
        client.say("unsubscribe", id="s")
        client.say("unsubscribe", id="never")
        assert client.follow(job_id, after=1)["type"] == "subscribed"
        client.say("unsubscribe", id="s")
        assert client.is_silent()
        story.progress(job_id)
        assert client.follow(job_id, after=2)["seq"] == 2
        assert client.is_silent(), "nothing of what it has"


def test_a_key_that_commands_too_much_is_let_go(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "COMMANDS_AT_ONCE", 3)
    monkeypatch.setattr(sockets, "COMMANDS_PER_SECOND", 0.001)
    headers = key_of(api)
    with speaking(api, headers=headers) as client, speaking(api) as neighbour:
        for number in range(4):
            body = {"job_id": str(uuid4())}
            client.say("command", id=str(number), op="job.retry", body=body)
        answers, code = client.rest()
        assert code == 4429
        codes = [each["problem"]["code"] for each in answers if each["type"] == "error"]
        assert "rate-limited" in codes
        assert set(codes) <= {"rate-limited", "job-not-found"}
        assert answers[-1]["type"] == "bye"
        assert answers[-1]["retry_after_ms"] > 0
        assert neighbour.command("job.retry", job_id=str(uuid4()))["type"] == "error"


def test_a_key_has_so_many_sockets(settings: Settings) -> None:
    with serve(settings, sockets_per_key=2) as api:
        with speaking(api), speaking(api):
            refused(api, status=429, code="rate-limited", close=4429)
            with speaking(api, headers=key_of(api)) as client:
                assert client.is_silent()
        eventually(lambda: len(api.parts.sockets) == 0)
        with speaking(api) as client:
            assert client.is_silent()


def test_scopes_hold_for_each_frame(api: Api, engine: Engine) -> None:
    job_id = Story(engine).begin()
    with speaking(api, headers=key_of(api, scopes=["jobs:read"])) as reader:
        assert reader.follow(job_id)["type"] == "subscribed"
        reader.receive("event")
        answer = reader.command("job.cancel", job_id=str(job_id))
        assert answer["problem"]["code"] == "insufficient-scope"
    with speaking(api, headers=key_of(api, scopes=["jobs:write"])) as writer:
        for answer in (writer.follow(job_id), writer.follow_all()):
            assert answer["problem"]["code"] == "insufficient-scope"
        assert writer.command("job.cancel", job_id=str(job_id))["status"] == 202
    with speaking(api, headers=key_of(api, project="another")) as stranger:
        assert stranger.follow(job_id)["problem"]["code"] == "job-not-found"
        answer = stranger.command("job.cancel", job_id=str(job_id))
        assert answer["problem"]["code"] == "job-not-found"


def test_a_keys_limits_hold_for_each_command(api: Api) -> None:
    limits = KeyLimits(["demo.*"], rate=0.001, burst=3)
    with speaking(api, headers=key_of(api, limits=limits)) as client:  # the first request
        for _ in range(2):
            answer = client.command("job.submit", kind="test.echo", args={})
            assert answer["problem"]["code"] == "kind-not-allowed"
        answer = client.command("job.submit", kind="demo.sleep", args={"seconds": 0})
        assert answer["problem"]["code"] == "rate-limited"


def test_a_process_that_ends_says_so(settings: Settings, engine: Engine) -> None:
    story = Story(engine)
    job_id = story.begin()
    with serve(settings) as api, speaking(api) as client:
        client.follow(job_id, after=1)
        api.parts.draining.begin()
        (bye,), code = client.rest()
        assert (bye["type"], bye["code"], code) == ("bye", 1012, 1012)
        assert bye["retry_after_ms"] > 0
        refused(api, status=503, code="draining", close=1013)


def test_a_client_that_leaves_is_forgotten(api: Api, engine: Engine) -> None:
    job_id = Story(engine).begin()
    for leave in ("close", "vanish"):
        with speaking(api) as client:
            client.follow(job_id, after=1)
            client.follow_all(id_="all")
            assert (len(api.parts.sockets), len(api.parts.tail)) == (1, 1)
            if leave == "vanish":
                client.socket.socket.close()
        eventually(lambda: not len(api.parts.sockets) and not len(api.parts.tail))
        assert not api.parts.hub._feeds


def test_a_client_that_takes_nothing_is_told_so_and_let_go(
    api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TOO_SLOW", 0.5)
    story = Story(engine)
    job_id, other = story.begin(), story.begin()
    for _ in range(4):  # more than the system keeps on the way
        story.log(job_id, "x" * 5_000_000)
    with speaking(api) as neighbour, speaking(api, max_queue=1, max_size=None) as client:
        client.follow(job_id, id_="s")
        client.say("subscribe", id="t", stream=f"job:{other}", after={"seq": 1})
        neighbour.follow(other, after=1)
        story.succeed(other)
        assert neighbour.events(ends, "s")
        eventually(lambda: any(each.is_ended for each in api.parts.sockets._open), within=30)  # type: ignore[attr-defined]
        answers, code = client.rest()
        assert code == 4508
        resets = [each for each in answers if each["type"] == "reset"]
        assert {each["id"] for each in resets} == {"s", "t"}
        assert {each["reason"] for each in resets} == {"slow"}
        events = [each["event"]["seq"] for each in answers if each["type"] == "event"]
        assert events == [*range(1, len(events) + 1)], "and what came has no gap"
        assert len(events) < 5
        assert neighbour.is_silent()
    eventually(lambda: len(api.parts.sockets) == 0)


def test_a_client_that_was_just_cut_off_does_not_disturb_others(api: Api, engine: Engine) -> None:
    """The server has closed its connection, and the session does not know yet."""
    job_id, hub = Story(engine).begin(), api.parts.hub
    with speaking(api) as neighbour, speaking(api) as client:
        client.follow(job_id, after=1, id_="cut off")
        neighbour.follow(job_id, after=1)
        [feed] = hub._feeds.values()
        readers: Any = feed.waiting
        eventually(lambda: all(each.way and each._waking for each in readers))
        open_: Any = api.parts.sockets._open
        [cut_off] = [each for each in open_ if "cut off" in each.subscriptions]
        seq = (feed.newest or 0) + 1
        hint = EventView(job_id, seq, "progress", datetime.now(UTC), 1, {}).json().encode()

        async def cut_off_and_hear() -> bool:
            cut_off.wire._connection.keepalive_timeout()
            hub._hear(hint)
            return bool(cut_off.is_ended)

        hearing = asyncio.run_coroutine_threadsafe(cut_off_and_hear(), cut_off._ended.get_loop())
        assert hearing.result(30)
        assert neighbour.receive("event")["event"]["seq"] == seq


def test_clients_do_not_disturb_each_other(api: Api, engine: Engine) -> None:
    """A hundred streams on one socket, all in order and whole."""
    story = Story(engine)
    jobs = [story.begin() for _ in range(session.SUBSCRIPTIONS)]
    with speaking(api) as client:
        for job_id in jobs:
            client.say("subscribe", id=str(job_id), stream=f"job:{job_id}", after={"seq": 0})
        for job_id in jobs:
            story.progress(job_id, 2)
        for job_id in jobs:
            story.succeed(job_id)
        assert read_all(client, [str(job_id) for job_id in jobs]) == {
            str(job_id): [1, 2, 3, 4] for job_id in jobs
        }


def read_all(client: Client, ids: list[str]) -> dict[str, list[int]]:
    """What each subscription got until all of their jobs have ended."""
    got: dict[str, list[int]] = {id_: [] for id_ in ids}
    left = set(ids)
    while left:
        frame = client.receive("event", "subscribed")
        if frame["type"] == "event":
            got[frame["id"]].append(frame["event"]["seq"])
            if ends(frame["event"]):
                left.discard(frame["id"])
    return got
