"""POST and GET /v1/events: the forms of CloudEvents 1.0, and what comes of an event."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from tests.api.serving import Api, at_once, problem

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order.placed",
    "time": "2026-11-22T05:00:00.5Z",
    "tenant": "eu",
    "data": {"value": 17},
}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


@pytest.fixture(scope="module", autouse=True)
def trigger(api: Api) -> str:
    """What makes a test.echo of each order that is placed."""
    body = {"type": "order.placed", "kind": "test.echo", "args": {"value": "data.value"}}
    response = api.http.post("/v1/triggers", json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def whole(**fields: Any) -> dict[str, Any]:
    return {**EVENT, "id": str(uuid4()), **fields}


def post(api: Api, document: Any, headers: dict[str, str] = STRUCTURED) -> httpx2.Response:
    return api.http.post("/v1/events", json=document, headers=headers)


def test_the_plain_form_is_completed_and_makes_its_job(api: Api, trigger: str) -> None:
    response = api.http.post("/v1/events", json={"type": "order.placed", "data": {"value": 1}})
    assert response.status_code == 202, response.text
    event = response.json()
    assert event["event"]["source"] == "/projects/default"
    assert event["event"]["specversion"] == "1.0"
    assert {"id", "time", "datacontenttype"} <= event["event"].keys()
    (job_id,) = event["jobs"]
    assert event["firings"] == [{"trigger_id": trigger, "job_id": job_id, "error": None}]
    assert api.job(job_id)["args"] == {"value": 1}
    assert response.headers["location"] == f"/v1/events/{event['id']}" == event["links"]["self"]
    assert api.http.get(f"/v1/events/{event['id']}").json() == event


def test_the_same_source_and_id_is_200_with_the_first(api: Api) -> None:
    sent = whole()
    first, again = post(api, sent), post(api, {**sent, "data": {"value": "other"}})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert first.json()["event"] == sent


def test_of_concurrent_twins_one_is_accepted_and_makes_the_job(api: Api) -> None:
    sent = whole()
    told = at_once(lambda: post(api, sent), 8)
    assert sorted(each.status_code for each in told) == [200] * 7 + [202]
    assert len({each.json()["id"] for each in told}) == 1
    (made,) = {tuple(each.json()["jobs"]) for each in told}
    assert len(made) == 1
    assert api.job(made[0])["args"] == {"value": 17}


def test_a_plain_events_idempotency_key_is_its_id(api: Api) -> None:
    headers = {"Idempotency-Key": "order-17"}
    body = {"type": "order.placed", "data": {"value": 1}}
    first, again = (api.http.post("/v1/events", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["event"]["id"] == "order-17"


def test_a_batch_is_accepted_in_order_and_names_what_it_knew(api: Api) -> None:
    known = whole()
    post(api, known)
    sent = [whole(), known, whole()]
    response = post(api, [*sent, sent[0]], BATCH)
    assert response.status_code == 202, response.text
    assert [item["event"]["id"] for item in response.json()["items"]] == [
        each["id"] for each in [*sent, sent[0]]
    ]
    assert response.json()["duplicates"] == [1, 3]
    assert post(api, sent, BATCH).status_code == 200
    flawed = problem(post(api, [whole(), whole(source="no uri")], BATCH), 422, "validation-failed")
    assert [flaw["pointer"] for flaw in flawed["errors"]] == ["#/1/source"]
    problem(post(api, [EVENT] * 101, BATCH), 422, "validation-failed")


def test_the_binary_form_has_its_attributes_in_headers(api: Api) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f'"{uuid4()}"',
        "ce-source": "/shop",
        "ce-type": "order.placed",
        "ce-subject": "Euro %E2%82%AC %F0%9F%98%80",
        "content-type": "text/plain; charset=utf-8",
    }
    response = api.http.post("/v1/events", content="Grüße".encode(), headers=headers)
    assert response.status_code == 202, response.text
    event = response.json()["event"]
    assert (event["data"], event["subject"]) == ("Grüße", "Euro € 😀")
    assert event["id"] == headers["ce-id"].strip('"')
    raw = {**headers, "ce-id": "raw", "content-type": "image/png"}
    event = api.http.post("/v1/events", content=b"\xff\x00", headers=raw).json()["event"]
    assert (event["data_base64"], event["datacontenttype"]) == ("/wA=", "image/png")
    wrong = api.http.post("/v1/events", headers={**headers, "ce-time": "noon", "ce-id": ""})
    flaws = problem(wrong, 422, "validation-failed")["errors"]
    assert {(flaw["pointer"], flaw["in"]) for flaw in flaws} == {
        ("#/ce-time", "header"),
        ("#/ce-id", "header"),
    }


def test_what_the_official_library_writes_is_read(api: Api) -> None:
    attributes = {
        name: value for name, value in whole().items() if name not in {"data", "time"}
    } | {"datacontenttype": "application/json", "subject": 'a b"ü%'}
    for write in (to_structured_event, to_binary_event):
        message = write(CloudEvent({**attributes, "id": str(uuid4())}, {"value": [1]}))
        response = api.http.post("/v1/events", content=message.body, headers=message.headers)
        assert response.status_code == 202, response.text
        event = response.json()["event"]
        assert (event["data"], event["subject"]) == ({"value": [1]}, attributes["subject"])
        assert event["tenant"] == "eu"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", None),
        ("id", ""),
        ("id", 7),
        ("id", None),
        ("id", "x" * 513),
        ("source", "two words"),
        ("source", "a%zz"),
        ("source", "/lading/jobs/1"),
        ("source", None),
        ("type", ""),
        ("type", "a\u0000b"),
        ("type", None),
        ("time", "2026-11-22 05:00:00Z"),
        ("time", "2026-02-30T05:00:00Z"),
        ("time", "2026-11-22T05:00:00"),
        ("subject", ""),
        ("subject", "\u0085"),
        ("datacontenttype", "json"),
        ("dataschema", "relative"),
        ("my_name", "underscored"),
        ("Upper", "case"),
        ("count", 2**31),
        ("share", 0.5),
        ("list", [1]),
        ("data_base64", "AA=="),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "backslashreplace").decode(),
)
def test_what_no_cloud_event_has_is_refused_where_it_stands(
    api: Api, field: str, value: Any
) -> None:
    flaws = problem(post(api, whole(**{field: value})), 422, "validation-failed")["errors"]
    assert [flaw["pointer"] for flaw in flaws] == ["#" if field == "data_base64" else f"#/{field}"]


def test_what_a_cloud_event_may_have_is_kept_as_it_is(api: Api) -> None:
    sent = whole(
        source="https://example.com/a%20b?c#d",
        subject="ß" * 100,
        time="2026-11-22t05:00:00.123456789+01:00",
        datacontenttype='application/json; profile="x"',
        dataschema="https://example.com/schema",
        flag=True,
        count=-(2**31),
        data=None,
    )
    assert post(api, {**sent, "nothing": None}).json()["event"] == sent


def test_a_request_that_is_no_event_is_a_problem(api: Api) -> None:
    def send(content: bytes, media_type: str) -> httpx2.Response:
        headers = {"content-type": media_type}
        return api.http.post("/v1/events", content=content, headers=headers)

    problem(send(b"{", "application/json"), 400, "bad-request")
    problem(send(b"[]", "application/json"), 422, "validation-failed")
    problem(send(b"{}", "text/plain"), 415, "unsupported-media-type")
    problem(send(b"{}", "application/cloudevents+xml"), 415, "unsupported-media-type")
    for body in ({}, {"type": "a", "foo": 1}, {"type": ""}, {"type": "a", "data": "x" * 262144}):
        problem(api.http.post("/v1/events", json=body), 422, "validation-failed")
    huge = {"type": "a", "data": "x" * 2**20}
    problem(api.http.post("/v1/events", json=huge), 413, "payload-too-large")


def test_events_are_listed_by_pages_and_filters(api: Api) -> None:
    source = f"/list/{uuid4()}"
    sent = [whole(source=source, type=f"list.{word}") for word in ("a", "b", "b.c")]
    made = [post(api, each).json() for each in sent]

    def listed(**params: Any) -> list[str]:
        page = api.http.get("/v1/events", params={"source": source, **params}).json()
        return [item["event"]["type"] for item in page["items"]]

    assert listed() == ["list.b.c", "list.b", "list.a"]
    assert listed(type="list.b.*") == ["list.b.c"]
    assert listed(type="list.b") == ["list.b"]
    assert listed(event_id=sent[0]["id"]) == ["list.a"]
    assert listed(received_after=made[1]["received_at"]) == ["list.b.c"]
    assert listed(received_before=made[1]["received_at"]) == ["list.a"]
    first = api.http.get("/v1/events", params={"source": source, "limit": 2})
    cursor = first.json()["next_cursor"]
    assert 'rel="next"' in first.headers["link"]
    assert listed(limit=2, cursor=cursor) == ["list.a"]
    other = api.http.get("/v1/events", params={"source": "/x", "cursor": cursor})
    problem(other, 400, "cursor-mismatch")
    problem(api.http.get("/v1/events", params={"type": "a*"}), 422, "validation-failed")


def test_an_event_of_another_project_is_404(api: Api) -> None:
    event = post(api, whole()).json()
    with api.client_of(project="other") as other:
        problem(other.get(f"/v1/events/{event['id']}"), 404, "event-not-found")
        assert other.get("/v1/events").json()["items"] == []
    problem(api.http.get("/v1/events/none"), 404, "event-not-found")
