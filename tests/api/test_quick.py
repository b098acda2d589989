"""What goes round FastAPI's layers is answered as what goes through them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.serving import Api

QUICK = "application/json"
USUAL = "application/json; charset=utf-8"  # is left to FastAPI
ECHO = {"kind": "test.echo", "args": {"value": 1}}
ANSWERED = [
    ("/v1/jobs", json.dumps(ECHO)),
    ("/v1/jobs", json.dumps({**ECHO, "kind": "no.kind"})),
    ("/v1/jobs", json.dumps({**ECHO, "after": ["#0"]})),
    ("/v1/jobs", json.dumps({**ECHO, "priority": 17, "more": None})),
    ("/v1/jobs", '{"kind": "test.echo", "args": '),
    ("/v1/jobs", "[]"),
    ("/v1/jobs", "null"),
    ("/v1/jobs/batch", json.dumps({"jobs": [ECHO, ECHO]})),
    ("/v1/jobs/batch", json.dumps({"jobs": [ECHO, {**ECHO, "args": {"value": "\0"}}]})),
    ("/v1/jobs/batch", '{"jobs": []}'),
]
#: What differs from request to request.
OF_ITS_OWN = {"id", "created_at", "queued_at", "links", "request_id"}


def same(document: Any) -> Any:
    """The document without what is its own."""
    match document:
        case dict():
            return {name: same(each) for name, each in document.items() if name not in OF_ITS_OWN}
        case list():
            return [same(each) for each in document]
        case _:
            return document


def post(api: Api, path: str, content: Any, media_type: str, **headers: str) -> Any:
    return api.http.post(path, content=content, headers={"Content-Type": media_type, **headers})


@pytest.mark.parametrize(("path", "body"), ANSWERED)
def test_both_ways_answer_alike(api: Api, path: str, body: str) -> None:
    quick, usual = post(api, path, body, QUICK), post(api, path, body, USUAL)
    assert quick.status_code == usual.status_code
    assert same(quick.json()) == same(usual.json())
    assert quick.headers.keys() == usual.headers.keys()


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": "x" * 300}, {"Idempotency-Key": '"'}, {"Prefer": "wait=0"}]
)
def test_headers_are_heeded_alike(api: Api, headers: dict[str, str]) -> None:
    body = json.dumps(ECHO)
    quick, usual = (post(api, "/v1/jobs", body, way, **headers) for way in (QUICK, USUAL))
    assert (quick.status_code, same(quick.json())) == (usual.status_code, same(usual.json()))
    assert quick.headers.get("Preference-Applied") == usual.headers.get("Preference-Applied")


def test_a_body_in_pieces_is_one(api: Api) -> None:
    def pieces(text: bytes) -> Iterator[bytes]:
        for start in range(0, len(text), 7):
            yield text[start : start + 7]

    text = json.dumps({**ECHO, "args": {"value": "in pieces"}}).encode()
    assert post(api, "/v1/jobs", pieces(text), QUICK).json()["args"] == {"value": "in pieces"}
    refused = post(api, "/v1/jobs", pieces(text[:-1]), QUICK)  # FastAPI reads them once more
    assert (refused.status_code, refused.json()["code"]) == (400, "bad-request")


def test_a_body_in_pieces_is_not_too_long(api: Api) -> None:
    answers = [
        post(api, "/v1/jobs", iter([b"[", b"0," * 300_000, b"0," * 300_000]), way)
        for way in (QUICK, USUAL)
    ]
    assert [answer.status_code for answer in answers] == [413, 413]
    assert same(answers[0].json()) == same(answers[1].json())
