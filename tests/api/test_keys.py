"""API keys over HTTP, and what they open."""

import httpx2
import pytest
from sqlalchemy import Engine, text

from api import schemas
from api.authentication import SCOPES
from jobs.keys.scopes import Scope
from jobs.keys.text import make_key, parse_key
from tests.api.serving import Api, problem
from tests.eventually import eventually


def test_a_key_is_made_shown_once_and_works(api: Api) -> None:
    response = api.http.post("/v1/keys", json={"name": "deploy"})
    assert response.status_code == 201
    schemas.MadeApiKey.model_validate_json(response.content)
    made = response.json()
    assert parse_key(made["key"])
    assert made["key"].startswith(made["prefix"])
    assert response.headers["cache-control"] == "no-store"
    assert (
        httpx2.get(f"{api.url}/v1/jobs", headers=bearer(made["key"]), timeout=40).status_code == 200
    )
    listed = api.http.get("/v1/keys")
    schemas.ApiKeys.model_validate_json(listed.content)
    (found,) = [key for key in listed.json()["items"] if key["id"] == made["id"]]
    assert found["name"] == "deploy"
    assert found["scopes"] == ["admin"]
    assert made["key"] not in listed.text
    assert made["key"].removeprefix(made["prefix"])[:30] not in listed.text


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_deleted_key_opens_nothing_at_once(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "short"}).json()
    with httpx2.Client(base_url=api.url, headers=bearer(made["key"]), timeout=40) as theirs:
        assert theirs.get("/v1/jobs").status_code == 200
        assert api.http.delete(f"/v1/keys/{made['id']}").status_code == 204
        problem(theirs.get("/v1/jobs"), 401, "unauthenticated")
    problem(api.http.delete(f"/v1/keys/{made['id']}"), 404, "key-not-found")
    problem(api.http.delete("/v1/keys/%00"), 404, "key-not-found")


def test_a_key_that_another_process_deleted_is_forgotten_soon(api: Api, engine: Engine) -> None:
    made = api.http.post("/v1/keys", json={"name": "elsewhere"}).json()
    with httpx2.Client(base_url=api.url, headers=bearer(made["key"]), timeout=40) as theirs:
        assert theirs.get("/v1/jobs").status_code == 200
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM api_key WHERE id = :id"), {"id": made["id"]})
        eventually(lambda: theirs.get("/v1/jobs").status_code == 401, within=10, every=0.2)


def test_the_last_use_is_shown(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "used"}).json()
    assert made["last_used_at"] is None
    httpx2.get(f"{api.url}/v1/jobs", headers=bearer(made["key"]), timeout=40)

    def last_used() -> str | None:
        (found,) = [k for k in api.http.get("/v1/keys").json()["items"] if k["id"] == made["id"]]
        at: str | None = found["last_used_at"]
        return at

    eventually(last_used)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer x", "Basic YTpi", "bearer", f"Bearer {make_key().text}", "\t"],
    ids=range(8),  # a key is another one in each process of the tests
)
def test_without_a_good_key_nothing_is_told(api: Api, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.strip().encode())]
    with httpx2.Client(base_url=api.url, timeout=40) as anybody:
        for path in ("/v1/jobs", "/v1/nothing", "/metrics", "/nothing"):
            response = anybody.get(path, headers=headers)
            problem(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"].startswith("Bearer")
        posted = anybody.post("/v1/jobs", content=b"{", headers=headers)
        problem(posted, 401, "unauthenticated")


def test_the_scheme_is_read_in_any_case(api: Api) -> None:
    headers = {"Authorization": f"bEARER {api.key}"}
    assert httpx2.get(f"{api.url}/v1/jobs", headers=headers, timeout=40).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 302),
        ("/livez", 200),
        ("/readyz", 200),
        ("/docs", 200),
        ("/docs/problems", 200),
        ("/openapi.json", 200),
        ("/static/swagger-ui.css", 200),
    ],
)
def test_few_addresses_need_no_key(api: Api, path: str, status: int) -> None:
    assert httpx2.get(f"{api.url}{path}", timeout=40).status_code == status


ASKED = {
    Scope.JOBS_READ: ("GET", "/v1/jobs"),
    Scope.JOBS_WRITE: ("POST", "/v1/jobs"),
    Scope.EVENTS_READ: ("GET", "/v1/events"),
    Scope.EVENTS_CONSUME: ("POST", "/v1/consumers/nobody/ack"),
    Scope.EVENTS_WRITE: ("POST", "/v1/events"),
    Scope.TRIGGERS_WRITE: ("POST", "/v1/triggers"),
    Scope.WEBHOOKS_WRITE: ("POST", "/v1/webhooks"),
    Scope.SCHEDULES_WRITE: ("POST", "/v1/schedules"),
    Scope.QUEUES_WRITE: ("POST", "/v1/queues/default/pause"),
    Scope.BULK_WRITE: ("POST", "/v1/bulk/preview"),
    Scope.KEYS_MANAGE: ("GET", "/v1/keys"),
    Scope.AUDIT_READ: ("GET", "/v1/audit"),
    Scope.METRICS_READ: ("GET", "/metrics"),
    Scope.ADMIN: ("POST", "/v1/projects"),
}


@pytest.mark.parametrize("scope", Scope)
def test_a_key_opens_what_its_scopes_say(api: Api, scope: Scope) -> None:
    with api.client_of(scopes=[scope]) as theirs:
        for other, (method, path) in ASKED.items():
            response = theirs.request(method, path)
            if scope in {other, Scope.ADMIN}:
                assert response.status_code != 403, path
            else:
                problem(response, 403, "insufficient-scope")


def test_every_address_below_v1_has_its_scopes(api: Api) -> None:
    paths = [path for path in api.app.openapi()["paths"] if path.startswith("/v1/")]
    assert paths
    assert {path.split("/")[2] for path in paths} <= SCOPES.keys()


def test_nobody_hands_on_more_than_they_have(api: Api) -> None:
    with api.client_of(scopes=[Scope.KEYS_MANAGE]) as theirs:
        refused = theirs.post("/v1/keys", json={"name": "more", "scopes": ["jobs:read"]})
        problem(refused, 403, "insufficient-scope")
        made = theirs.post("/v1/keys", json={"name": "same", "scopes": ["keys:manage"]})
        assert made.json()["scopes"] == ["keys:manage"]


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "\0"}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["?"]}],
)
def test_a_key_that_does_not_fit_is_422(api: Api, body: dict[str, object]) -> None:
    problem(api.http.post("/v1/keys", json=body), 422, "validation-failed")


def test_keys_are_a_projects_own(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "ours"}).json()
    with api.client_of(project="another") as theirs:
        assert made["id"] not in {key["id"] for key in theirs.get("/v1/keys").json()["items"]}
        problem(theirs.delete(f"/v1/keys/{made['id']}"), 404, "key-not-found")
