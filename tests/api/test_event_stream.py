"""The events of the bus, followed over a WebSocket and as Server-Sent Events, and by consumers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr

from api import revocation
from api.bus.answers import StreamPage
from tests.api.listening import Sent, sent
from tests.api.serving import Api, problem, serve
from tests.api.speaking import Client, Frame, speaking
from tests.eventually import eventually

SILENCE = 14  # seconds, after which it is too late: a server says something every 15


class Kind(NamedTuple):
    """A type of events that one test has for itself."""

    name: str

    def publish(self, api: Api, what: str = "made", data: Any = None) -> str:
        """The id of an event of the type `<name>.<what>`."""
        body = {"type": f"{self.name}.{what}", "data": data}
        response = api.http.post("/v1/events", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])


@pytest.fixture
def kind() -> Kind:
    return Kind(f"t{uuid4().hex}")


def follow(client: Client, types: Any, id_: str = "s", **fields: Any) -> Frame:
    """The answer to `subscribe`."""
    if isinstance(position := fields.get("after"), str):
        fields["after"] = {"position": position}
    client.say("subscribe", id=id_, stream="events", filter={"type": types}, **fields)
    return client.receive("subscribed", "error")


def next_event(client: Client, id_: str = "s") -> Frame:
    frame = client.receive("event")
    assert frame["id"] == id_
    return frame


@contextmanager
def stream(
    api: Api, client: httpx2.Client | None = None, last: str | None = None, **query: str
) -> Iterator[Iterator[Sent]]:
    """The messages of an open stream."""
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
    http = client or api.http
    with http.stream(
        "GET", "/v1/events/stream", params=query, headers=headers, timeout=SILENCE
    ) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield sent(response)


def refused(api: Api, client: httpx2.Client | None = None, **query: str) -> httpx2.Response:
    return (client or api.http).get("/v1/events/stream", params=query)


def test_events_are_followed_live_by_their_types(api: Api, kind: Kind) -> None:
    with speaking(api) as client, stream(api, types=f"{kind.name}.made,{kind.name}.a.*") as sse:
        answer = follow(client, [f"{kind.name}.made", f"{kind.name}.a.*"])
        assert answer["snapshot"] is None
        assert next(sse).event == "subscribed"
        wanted = [kind.publish(api, "made", {"n": 1})]
        kind.publish(api, "left")
        wanted += [kind.publish(api, "a.b"), kind.publish(api, "made")]
        frames = [next_event(client) for _ in wanted]
        assert [frame["event"]["id"] for frame in frames] == wanted
        messages = [next(sse) for _ in wanted]
        assert [message.data for message in messages] == [frame["event"] for frame in frames]
        assert {message.event for message in messages} == {"message"}
        (first, *_), shown = frames, api.http.get(f"/v1/events/{wanted[0]}").json()
        assert {name: shown[name] for name in first["event"]} == first["event"]
        assert first["event"]["event"]["data"] == {"n": 1}


def test_a_reader_resumes_after_each_event_without_hole_or_double(api: Api, kind: Kind) -> None:
    with speaking(api) as client:
        begun = follow(client, f"{kind.name}.*")["position"]
        published = [kind.publish(api, data=number) for number in range(6)]
        frames = [next_event(client) for _ in published]
        positions = [begun, *(frame["position"] for frame in frames)]
        for number, position in enumerate(positions):
            id_, rest = f"again-{number}", published[number:]
            follow(client, f"{kind.name}.*", id_, after=position)
            assert [next_event(client, id_)["event"]["id"] for _ in rest] == rest
            with stream(api, types=f"{kind.name}.*", after="oldest", last=position) as sse:
                assert next(sse).event == "subscribed"
                assert [next(sse).data["id"] for _ in rest] == rest
        client.say("unsubscribe", id="s")
        assert client.is_silent()


def test_the_oldest_position_is_before_all_that_is_kept(api: Api, kind: Kind) -> None:
    published = [kind.publish(api) for _ in range(3)]
    with speaking(api) as client, stream(api, types=f"{kind.name}.*", after="oldest") as sse:
        follow(client, f"{kind.name}.*", after="oldest")
        assert [next_event(client)["event"]["id"] for _ in published] == published
        next(sse)
        assert [next(sse).data["id"] for _ in published] == published


def test_events_are_read_as_json_as_well(api: Api, kind: Kind) -> None:
    published = [kind.publish(api) for _ in range(3)]
    query = {"types": f"{kind.name}.*", "after": "oldest"}
    page = api.http.get("/v1/events/stream", params=query)
    StreamPage.model_validate_json(page.content)
    assert [each["id"] for each in page.json()["items"]] == published
    query["after"] = page.json()["position"]
    assert api.http.get("/v1/events/stream", params=query).json()["items"] == []
    late = kind.publish(api)
    (item,) = api.http.get("/v1/events/stream", params=query).json()["items"]
    assert item["id"] == late


def test_a_position_of_another_life_is_told(api: Api, kind: Kind) -> None:
    with speaking(api) as client, stream(api, after="00000000.17") as sse:
        follow(client, f"{kind.name}.*", after="00000000.17")
        reset = client.receive("reset")
        assert (reset["reason"], reset["snapshot"]) == ("position-unknown", None)
        begun = next(sse)
        assert begun.event == "subscribed"
        assert next(sse) == (begun.id, "reset", {"reason": "position-unknown"})
        kind.publish(api)
        assert next_event(client)


def test_what_cannot_be_meant_is_refused(api: Api) -> None:
    wrong = {"types": "user.*.x", "after": "nowhere", "consumer": "No Name"}
    for name, value in wrong.items():
        found = problem(refused(api, None, **{name: value}), 422, "validation-failed")
        assert found["errors"][0]["pointer"] == f"#/{name}"
    with speaking(api) as client:
        for fields, pointer in (
            ({"types": "user.*.x"}, "#/filter/type"),
            ({"types": "*", "after": "nowhere"}, "#/after/position"),
            ({"types": "*", "consumer": "No Name"}, "#/consumer"),
        ):
            error = follow(client, **fields)["problem"]
            assert (error["code"], error["errors"][0]["pointer"]) == ("validation-failed", pointer)
        client.say("ack", id="nobody", position="00000000.17")
        assert client.receive("error")["problem"]["code"] == "bad-request"


def test_a_project_sees_its_own_events_only(api: Api, kind: Kind) -> None:
    with (
        api.client_of(project="other") as theirs,
        stream(api, theirs, types=f"{kind.name}.*") as sse,
    ):
        next(sse)
        kind.publish(api)
        mine = theirs.post("/v1/events", json={"type": f"{kind.name}.made"}).json()
        assert next(sse).data["id"] == mine["id"]


def test_keys_need_the_scopes(api: Api) -> None:
    with api.client_of(scopes=["jobs:read"]) as theirs:
        problem(refused(api, theirs), 403, "insufficient-scope")
        headers = {"Authorization": str(theirs.headers["authorization"])}
        with speaking(api, headers=headers) as client:
            assert follow(client, "*")["problem"]["code"] == "insufficient-scope"
    with api.client_of(scopes=["events:read"]) as theirs:
        problem(refused(api, theirs, consumer="billing"), 403, "insufficient-scope")
        headers = {"Authorization": str(theirs.headers["authorization"])}
        with speaking(api, headers=headers) as client:
            refusal = follow(client, "*", consumer="billing")
            assert refusal["problem"]["code"] == "insufficient-scope"
            assert follow(client, "*")["type"] == "subscribed"


def test_a_revoked_keys_stream_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "CHECK_EVERY", 0.1)
    with serve(api.settings) as other, other.client_of() as theirs:
        prefix = str(theirs.headers["authorization"]).removeprefix("Bearer ")
        with stream(other, theirs) as sse:
            next(sse)
            keys = other.http.get("/v1/keys").json()["items"]
            (key_id,) = [key["id"] for key in keys if prefix.startswith(key["prefix"])]
            assert other.http.delete(f"/v1/keys/{key_id}").status_code == 204
            assert [*sse] == []
        problem(refused(other, theirs), 401, "unauthenticated")


def test_a_draining_server_says_bye(api: Api) -> None:
    with serve(api.settings) as other, stream(other) as sse:
        next(sse)
        other.parts.draining.begin()
        assert [message.event for message in sse] == ["bye"]
        problem(refused(other), 503, "draining")


def test_without_hints_events_are_late_and_never_lost(api: Api, kind: Kind) -> None:
    gone = SecretStr("redis://127.0.0.1:9/0")
    with serve(api.settings, broker_url=gone) as other, stream(other) as sse:
        next(sse)
        published = [kind.publish(other) for _ in range(3)]
        found = iter(message.data["id"] for message in sse)
        assert [next(found) for _ in published] == published


def test_a_consumer_goes_on_where_it_acknowledged(api: Api, kind: Kind) -> None:
    name, types = f"c-{kind.name}", f"{kind.name}.*"
    with speaking(api) as client:
        follow(client, types, consumer=name)
        first, *rest = [kind.publish(api) for _ in range(3)]
        frame = next_event(client)
        assert frame["event"]["id"] == first
        client.say("ack", id="s", position=frame["position"])
        while (answer := client.receive("acked", "event"))["type"] != "acked":
            pass
        assert answer == {"type": "acked", "id": "s", "position": frame["position"]}
    rest.append(kind.publish(api))  # while nobody listens
    with speaking(api) as client:
        assert follow(client, types, consumer=name)["position"] == frame["position"]
        again = [next_event(client) for _ in rest]
        assert [each["event"]["id"] for each in again] == rest
    with stream(api, types=types, consumer=name) as sse:
        begun = next(sse).data
        assert (begun["consumer"], begun["position"]) == (name, frame["position"])
        messages = [next(sse) for _ in rest]
        assert [message.data["id"] for message in messages] == rest
        body = {"position": messages[-1].id, "member": begun["member"]}
        kept = api.http.post(f"/v1/consumers/{name}/ack", json=body)
        assert (kept.status_code, kept.json()["position"]) == (200, messages[-1].id)
    with stream(api, types=types, consumer=name) as sse:
        assert next(sse).data["position"] == messages[-1].id
        last = kind.publish(api)
        assert next(sse).data["id"] == last, "there is nothing before it"


@pytest.mark.parametrize("after", ["the last one", "oldest"])
def test_what_was_not_acknowledged_comes_again_whatever_the_client_has_seen(
    api: Api, kind: Kind, after: str
) -> None:
    name, types = f"c-{kind.name}", f"{kind.name}.*"
    with stream(api, types=types, consumer=name) as sse:
        begun = next(sse)
        published = [kind.publish(api) for _ in range(3)]
        first, _, last = (next(sse) for _ in published)
        body = {"position": first.id, "member": begun.data["member"]}
        assert api.http.post(f"/v1/consumers/{name}/ack", json=body).status_code == 200
    seen = last.id if after == "the last one" else after
    with stream(api, last=last.id, types=types, consumer=name, after=seen) as sse:
        assert next(sse).id == first.id
        assert [next(sse).data["id"] for _ in published[1:]] == published[1:]
    query = {"types": types, "consumer": name, "after": seen}
    page = api.http.get("/v1/events/stream", params=query).json()
    assert page["items"][0]["id"] == published[1]
    with speaking(api) as client:
        assert follow(client, types, consumer=name, after=seen)["position"] == first.id
        assert [next_event(client)["event"]["id"] for _ in published[1:]] == published[1:]


def test_a_new_consumer_begins_where_it_is_told_to(api: Api, kind: Kind) -> None:
    published = [kind.publish(api) for _ in range(2)]
    with speaking(api) as client:
        follow(client, f"{kind.name}.*", consumer=f"c-{kind.name}", after="oldest")
        assert [next_event(client)["event"]["id"] for _ in published] == published


def test_only_what_has_been_is_acknowledged_and_stays_so(api: Api, kind: Kind) -> None:
    name = f"c-{kind.name}"
    with speaking(api) as client:
        follow(client, f"{kind.name}.*", consumer=name)
        for _ in range(2):
            kind.publish(api)
        earlier, later = (next_event(client)["position"] for _ in range(2))
        epoch = later.partition(".")[0]
        member = api.http.get(f"/v1/consumers/{name}").json()["member"]
        for unknown in (f"{epoch}.99999999999", "deadbeef.99"):
            client.say("ack", id="s", position=unknown)
            refusal = client.receive("error")
            assert refusal["id"] == "s"
            assert refusal["problem"]["errors"][0]["pointer"] == "#/position"
            body = {"position": unknown, "member": member}
            answer = api.http.post(f"/v1/consumers/{name}/ack", json=body)
            found = problem(answer, 422, "validation-failed")
            assert found["errors"] == refusal["problem"]["errors"]
        for position in (later, earlier):
            client.say("ack", id="s", position=position)
            acked = {"type": "acked", "id": "s", "position": later}
            assert client.receive("acked") == acked, "the subscription lives, and goes on from here"
    assert api.http.get(f"/v1/consumers/{name}").json()["position"] == later


def test_a_consumer_of_another_life_of_the_database_begins_anew_once(api: Api, kind: Kind) -> None:
    name, types = f"c-{kind.name}", f"{kind.name}.*"
    with speaking(api) as client:
        begun = follow(client, types, consumer=name, after="00000000.17")["position"]
        assert client.receive("reset")["reason"] == "position-unknown"
        lost = kind.publish(api)
        assert next_event(client)["event"]["id"] == lost
    with speaking(api) as client:
        assert follow(client, types, consumer=name)["position"] == begun
        assert next_event(client)["event"]["id"] == lost, "it was not acknowledged"


def test_who_has_lost_a_consumer_is_told_so_whatever_it_acknowledges(api: Api, kind: Kind) -> None:
    taken, deleted = f"c-{kind.name}", f"d-{kind.name}"
    with speaking(api) as older, stream(api, consumer=deleted) as sse:
        next(sse)
        position = follow(older, "none", consumer=taken)["position"]
        with speaking(api) as newer:
            follow(newer, "none", consumer=taken)
            assert older.receive("error")["problem"]["code"] == "consumer-taken"
            older.say("ack", id="s", position=position)
            answer = older.receive("error")
            assert (answer["id"], answer["problem"]["status"]) == ("s", 409)
            assert answer["problem"]["code"] == "consumer-taken"
            older.say("unsubscribe", id="s")
            older.say("ack", id="s", position=position)
            assert older.receive("error")["problem"]["code"] == "bad-request"
        assert api.http.delete(f"/v1/consumers/{deleted}").status_code == 204
        (last,) = [message for message in sse if message.event != "message"]
        assert (last.event, last.data["consumer"]) == ("deleted", deleted)


def test_the_newer_member_takes_the_place(api: Api, kind: Kind) -> None:
    name = f"c-{kind.name}"
    with speaking(api) as older, stream(api, consumer=name) as sse:
        begun = next(sse).data
        follow(older, "*", consumer=name)
        taken = next(message for message in sse if message.event == "taken")
        assert taken.data["consumer"] == name
        assert [*sse] == []
        body = {"position": begun["position"], "member": begun["member"]}
        refusal = api.http.post(f"/v1/consumers/{name}/ack", json=body)
        problem(refusal, 409, "consumer-taken")
        with serve(api.settings) as elsewhere, speaking(elsewhere) as newer:
            position = follow(newer, "*", consumer=name)["position"]
            while (error := older.receive())["type"] == "event":
                pass
            assert (error["id"], error["problem"]["code"]) == ("s", "consumer-taken")
            newer.say("ack", id="s", position=position)
            while (answer := newer.receive())["type"] == "event":
                pass
            assert answer["type"] == "acked"


def test_a_consumer_is_listed_and_deleted(api: Api, kind: Kind) -> None:
    name = f"c-{kind.name}"
    with speaking(api) as client:
        position = follow(client, [f"{kind.name}.*", "a"], consumer=name)["position"]
        shown = api.http.get(f"/v1/consumers/{name}").json()
        assert shown["types"] == [f"{kind.name}.*", "a"]
        assert (shown["position"], shown["acknowledged_at"]) == (position, None)
        page = api.http.get("/v1/consumers", params={"limit": 1}).json()
        assert page["items"] == [shown]
        assert api.http.delete(f"/v1/consumers/{name}").status_code == 204
        assert client.receive("error")["problem"]["code"] == "consumer-deleted"
        assert api.http.get("/v1/consumers", params={"limit": 1}).json()["items"] != [shown]
    problem(api.http.get(f"/v1/consumers/{name}"), 404, "consumer-not-found")
    problem(api.http.delete(f"/v1/consumers/{name}"), 404, "consumer-not-found")
    trail = api.http.get("/v1/audit", params={"target": name}).json()["items"]
    assert [entry["action"] for entry in trail] == ["consumer.delete", "consumer.create"]


def test_readers_that_leave_are_forgotten(api: Api) -> None:
    with speaking(api) as client, stream(api, consumer="passing") as sse:
        next(sse)
        follow(client, "*")
        assert len(api.parts.bus_tail) == 2
    eventually(lambda: not len(api.parts.bus_tail) and not api.parts.members._members)
    assert api.http.get("/v1/consumers/passing").json()["acknowledged_at"] is None
