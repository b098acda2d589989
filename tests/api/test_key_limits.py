"""Keys that may not everything: kinds, an end, a rate; none makes one that may do more."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, text

from api import schemas
from api.keyring import Principal
from api.rates import Rates
from jobs.keys.limits import KeyLimits
from tests.api.serving import Api, problem
from tests.eventually import eventually


def make(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/keys", json={"name": "limited", **fields})
    assert response.status_code == 201, response.text
    schemas.MadeApiKey.model_validate_json(response.content)
    made: dict[str, Any] = response.json()
    return made


@contextmanager
def holding(api: Api, **fields: Any) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {make(api.http, **fields)['key']}"}
    with httpx2.Client(base_url=api.url, headers=headers, timeout=40) as client:
        yield client


def test_a_key_runs_the_kinds_that_it_may(api: Api) -> None:
    allowed, other = {"kind": "test.echo", "args": {}}, {"kind": "demo.sleep", "args": {}}
    foreign = api.submit("demo.sleep", args={"seconds": 0})
    with holding(api, role="submitter", kinds=["test.*"]) as theirs:
        assert theirs.post("/v1/jobs", json=allowed).status_code == 202
        refusals = [
            theirs.post("/v1/jobs", json=other),
            theirs.post("/v1/jobs/batch", json={"jobs": [allowed, other]}),
            theirs.post(f"/v1/jobs/{foreign['id']}/rerun"),
            theirs.post("/v1/jobs", json={"kind": "no.such", "args": {}}),
        ]
        for refused in refusals:
            assert "kind" in problem(refused, 403, "kind-not-allowed")
        assert refusals[0].json()["kind"] == "demo.sleep"


def test_a_key_runs_no_other_kind_by_schedules_and_triggers(api: Api) -> None:
    schedule = {"name": "theirs", "kind": "demo.sleep", "every": 3600, "args": {"seconds": 0}}
    at = f"/v1/schedules/{api.http.post('/v1/schedules', json=schedule).json()['id']}"
    trigger = {"type": "a.b", "kind": "demo.sleep", "args": {"seconds": 0}}
    on = f"/v1/triggers/{api.http.post('/v1/triggers', json=trigger).json()['id']}"
    event = {"event": {"type": "a.b"}}
    with holding(api, role="operator", kinds=["test.*"]) as theirs:
        for refused in (
            theirs.post(f"{at}/run-now"),
            theirs.post(f"{at}/resume"),
            theirs.patch(at, json={"args": {"seconds": 1}}),
            theirs.patch(at, json={"kind": "test.echo"}),
            theirs.post(f"{on}/replay", json={}),
            theirs.post(f"{on}/replay", json={"confirm": 0}),
            theirs.patch(on, json={"enabled": True}),
        ):
            assert problem(refused, 403, "kind-not-allowed")["kind"] == "demo.sleep"
        for done in (theirs.post(f"{at}/pause"), theirs.post(f"{on}/test", json=event)):
            assert done.status_code == 200
        assert theirs.delete(at).status_code == theirs.delete(on).status_code == 204


def test_an_expired_key_opens_nothing(api: Api, engine: Engine) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with holding(api, expires_at=ends) as theirs:
        assert theirs.get("/v1/jobs").status_code == 200
        (key,) = [each for each in theirs.get("/v1/keys").json()["items"] if each["expires_at"]]
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE api_key SET expires_at = clock_timestamp() WHERE id = :id"),
                {"id": key["id"]},
            )
        eventually(lambda: theirs.get("/v1/jobs").status_code == 401, within=10, every=0.2)


def test_a_key_that_has_ended_already_is_not_made(api: Api) -> None:
    body = {"name": "late", "expires_at": "2001-01-01T00:00:00Z"}
    told = problem(api.http.post("/v1/keys", json=body), 422, "validation-failed")
    assert told["errors"][0]["pointer"] == "#/expires_at"


def test_a_limited_key_is_told_what_is_left(api: Api) -> None:
    with holding(api, rate={"per_second": 0.01, "burst": 3}) as theirs:
        answers = [theirs.get("/v1/jobs"), theirs.get("/v1/nothing"), theirs.get("/v1/keys")]
        assert [each.status_code for each in answers] == [200, 404, 200]
        for left, each in zip((2, 1, 0), answers, strict=True):
            assert each.headers["ratelimit-policy"] == '"key";q=3;w=300'
            assert each.headers["ratelimit"].startswith(f'"key";r={left};t=')
        refused = theirs.get("/v1/jobs")
        told = problem(refused, 429, "rate-limited")
        assert told["violated-policies"] == ["key"]
        assert told["type"].endswith("/docs/problems#rate-limited")
        assert 0 < int(refused.headers["retry-after"]) <= 100
        after = refused.headers["retry-after"]
        assert refused.headers["ratelimit"] == f'"key";r=0;t={after}'
    assert "ratelimit" not in api.http.get("/v1/jobs").headers


def test_tokens_come_back_with_time() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    principal = Principal("p", "k", "n", frozenset(), KeyLimits(rate=2, burst=2))

    def granted() -> bool:
        taken = rates.take(principal)
        assert taken is not None
        return taken.is_granted

    assert [granted() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [granted() for _ in range(2)] == [True, False]
    now[0] = 100
    assert [granted() for _ in range(3)] == [True, True, False]


def test_no_key_makes_one_that_may_do_more(api: Api) -> None:
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    limits: dict[str, Any] = {"kinds": ["test.*"], "rate": {"per_second": 1000}}
    with holding(api, scopes=["keys:manage", "jobs:read"], expires_at=ends, **limits) as theirs:
        plain = make(theirs, scopes=["jobs:read"])
        assert plain["kinds"] == ["test.*"]
        assert plain["rate"] == {"per_second": 1000, "burst": 1000}
        assert plain["expires_at"] is not None
        make(theirs, scopes=["jobs:read"], kinds=["test.echo"])
        for wider in (
            {"kinds": ["*"]},
            {"expires_at": later},
            {"rate": {"per_second": 1001}},
            {"rate": {"per_second": 1, "burst": 1001}},
        ):
            body = {"name": "more", "scopes": ["jobs:read"], **wider}
            problem(theirs.post("/v1/keys", json=body), 403, "key-limits-exceeded")
        for role in ("submitter", "operator", "admin"):
            refused = theirs.post("/v1/keys", json={"name": "more", "role": role})
            problem(refused, 403, "insufficient-scope")
        problem(theirs.post("/v1/keys", json={"name": "more"}), 403, "insufficient-scope")


def test_a_key_that_was_just_deleted_makes_no_other(api: Api, engine: Engine) -> None:
    with holding(api) as theirs:
        assert theirs.get("/v1/jobs").status_code == 200  # it is remembered now
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM api_key WHERE name = 'limited'"))
        problem(theirs.post("/v1/keys", json={"name": "heir"}), 401, "unauthenticated")


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "king"},
        {"role": "reader", "scopes": ["jobs:read"]},
        {"kinds": []},
        {"kinds": ["A"]},
        {"rate": {"per_second": 0}},
        {"rate": {"burst": 1}},
        {"expires_at": "tomorrow"},
    ],
    ids=range(7),
)
def test_limits_that_make_no_sense_are_422(api: Api, fields: dict[str, Any]) -> None:
    response = api.http.post("/v1/keys", json={"name": "x", **fields})
    problem(response, 422, "validation-failed")
