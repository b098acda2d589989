"""A page opens a socket with a ticket: one, once, from where it may come."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text
from websockets.exceptions import InvalidStatus

from tests.api.listening import frames
from tests.api.serving import Api, new_key, problem
from tests.api.speaking import raw_socket, speaking
from tests.api.stories import Story

NOBODY: dict[str, Any] = {"headers": {}}


def ticket_of(api: Api, **body: Any) -> str:
    response = api.http.post("/v1/ws-tickets", json=body or None)
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    found: str = response.json()["ticket"]
    return found


def protocols(ticket: str) -> tuple[str, str]:
    return "lading.v1", f"ticket.{ticket}"


def refused(api: Api, ticket: str) -> None:
    with raw_socket(api, *protocols(ticket), origin=api.url, headers={}) as socket:
        assert frames(socket) == ([], 4401)
        assert socket.subprotocol == "lading.v1", "else a browser would not see why"
    with pytest.raises(InvalidStatus) as error, raw_socket(api, *protocols(ticket), headers={}):
        pass
    assert error.value.response.status_code == 401
    assert json.loads(error.value.response.body or b"")["code"] == "unauthenticated"


def test_a_ticket_opens_one_socket(api: Api, engine: Engine) -> None:
    job_id = Story(engine).begin()
    ticket = ticket_of(api)
    with speaking(api, *protocols(ticket), origin=api.url, headers={}) as client:
        assert client.command("job.cancel", job_id=str(job_id))["status"] == 202
        assert client.follow(job_id)["type"] == "subscribed"
        client.receive("event")
        refused(api, ticket)
    refused(api, ticket)


def test_a_ticket_expires(api: Api, engine: Engine) -> None:
    ticket = ticket_of(api)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ws_ticket SET expires_at = clock_timestamp()"))
    refused(api, ticket)


def test_nonsense_is_no_ticket(api: Api) -> None:
    for ticket in ("nonsense", "x" * 4000):
        refused(api, ticket)


def test_another_sites_page_gets_nowhere_with_a_ticket_and_does_not_use_it_up(api: Api) -> None:
    ticket = ticket_of(api)
    with raw_socket(api, *protocols(ticket), origin="https://evil.example", headers={}) as socket:
        assert frames(socket) == ([], 4403)
    with speaking(api, *protocols(ticket), origin=api.url, headers={}) as client:
        assert client.is_silent()


def test_a_ticket_does_no_more_than_was_asked_for(api: Api, engine: Engine) -> None:
    job_id = Story(engine).begin()
    ticket = ticket_of(api, scopes=["jobs:read"])
    with speaking(api, *protocols(ticket), origin=api.url, headers={}) as client:
        assert client.follow(job_id)["type"] == "subscribed"
        client.receive("event")
        answer = client.command("job.cancel", job_id=str(job_id))
        assert answer["problem"]["code"] == "insufficient-scope"


def test_a_key_hands_on_no_more_than_it_has(api: Api) -> None:
    reader = {"Authorization": f"Bearer {new_key(api.settings, scopes=['jobs:read'])}"}
    made = api.http.post("/v1/ws-tickets", headers=reader)
    assert made.json()["scopes"] == ["jobs:read"]
    wanted = {"scopes": ["jobs:write"]}
    response = api.http.post("/v1/ws-tickets", headers=reader, json=wanted)
    problem(response, 403, "insufficient-scope")
    response = api.http.post("/v1/ws-tickets", json={"scopes": ["jobs:read", "keys:manage"]})
    (flaw,) = problem(response, 422, "validation-failed")["errors"]
    assert flaw["pointer"] == "#/scopes/1"
    assert "'jobs:read', 'jobs:write'" in flaw["detail"]
    response = api.http.post("/v1/ws-tickets", headers={"Authorization": "Bearer nonsense"})
    problem(response, 401, "unauthenticated")
