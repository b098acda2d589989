"""Projects: made by the operator, closed to each other on every address there is."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from api import operating, schemas
from api.authentication import is_keyless
from jobs.states import JobState
from tests.api.serving import Api, problem
from tests.jobs.making import make_job

NOBODYS = "00000000-0000-7000-8000-000000000000"


def with_key(api: Api, key: str) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=api.url, headers=headers, timeout=40)


def test_the_operator_makes_a_project_and_its_first_key(api: Api) -> None:
    made = api.http.post("/v1/projects", json={"id": "shop", "name": "The web shop"})
    assert made.status_code == 201
    operating.Project.model_validate_json(made.content)
    problem(api.http.post("/v1/projects", json={"id": "shop"}), 409, "project-exists")
    key = api.http.post("/v1/projects/shop/keys", json={"name": "first"})
    schemas.MadeApiKey.model_validate_json(key.content)
    with with_key(api, key.json()["key"]) as theirs:
        job = theirs.post("/v1/jobs", json={"kind": "test.echo", "args": {}}).json()
        problem(api.http.get(f"/v1/jobs/{job['id']}"), 404, "job-not-found")
        assert theirs.get(f"/v1/jobs/{job['id']}").status_code == 200
        assert [each["id"] for each in theirs.get("/v1/projects").json()["items"]] == ["shop"]
        assert theirs.get("/v1/projects/shop").json() == made.json()
        problem(theirs.get("/v1/projects/default"), 404, "project-not-found")
        problem(theirs.post("/v1/projects", json={"id": "mine"}), 403, "insufficient-scope")
        refused = theirs.post("/v1/projects/default/keys", json={"name": "thief"})
        problem(refused, 404, "project-not-found")
        problem(theirs.get("/metrics"), 403, "insufficient-scope")
        (entry,) = theirs.get("/v1/audit", params={"action": "key.create"}).json()["items"]
        assert entry["details"]["by_project"] == "default"
    problem(api.http.get("/v1/projects/none"), 404, "project-not-found")
    body = {"name": "x"}
    problem(api.http.post("/v1/projects/none/keys", json=body), 404, "project-not-found")


def test_projects_are_listed_by_id_and_paged(api: Api) -> None:
    for name in ("b", "a", "c"):
        assert api.http.post("/v1/projects", json={"id": f"page-{name}"}).status_code == 201
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.http.get("/v1/projects", params={"limit": 2, "cursor": cursor})
        operating.Projects.model_validate_json(page.content)
        seen += [each["id"] for each in page.json()["items"]]
        cursor = page.json()["next_cursor"]
    assert seen == sorted(seen)
    assert {"default", "page-a", "page-b", "page-c"} <= set(seen)


@pytest.fixture(scope="module")
def foreign(api: Api, engine: Engine) -> dict[str, str]:
    """What the project `default` has, by the names that addresses give to ids."""
    with engine.begin() as connection:
        job_id = str(make_job(connection, JobState.SCHEDULED))
    file = api.http.post("/v1/files", files={"file": ("a.txt", b"abc")}).json()
    key = api.http.post("/v1/keys", json={"name": "theirs"}).json()
    return {
        "job_id": job_id,
        "file_id": file["id"],
        "key_id": key["id"],
        "project_id": "default",
        "kind": "test.echo",
    }


#: Names in addresses that are no ids of a project's rows: what anybody may name.
SHARED = {"kind", "queue", "limit"}


def requests(api: Api, ids: dict[str, str]) -> Iterator[tuple[str, str, set[str]]]:
    """Every operation on something that has an id, with these ids."""
    for path, operations in api.app.openapi()["paths"].items():
        names = set(re.findall(r"{(\w+)}", path))
        if is_keyless(path) or not names - SHARED:
            continue
        filled = re.sub(r"{(\w+)}", lambda found: ids.get(found[1], NOBODYS), path)
        for method in operations:
            yield method.upper(), filled, names


def test_no_address_opens_what_is_anothers(api: Api, foreign: dict[str, str]) -> None:
    asked = 0
    with api.client_of(project="nosy") as theirs:
        for method, path, names in requests(api, foreign):
            response = _ask(theirs, method, path)
            assert response.status_code in {404, 422}, (method, path, response.text)
            if response.status_code == 422:  # the body is looked at first: then it must fit
                assert names - foreign.keys(), (method, path, response.text)
            asked += 1
    assert asked > 12
    assert api.job(foreign["job_id"])["state"] == "scheduled"
    assert api.http.get(f"/v1/files/{foreign['file_id']}").status_code == 200


BODIES: dict[str, Any] = {"/v1/projects/default/keys": {"name": "thief"}}


def _ask(client: httpx2.Client, method: str, path: str) -> httpx2.Response:
    if method in {"POST", "PUT", "PATCH"}:
        return client.request(method, path, json=BODIES.get(path, {}))
    return client.request(method, path)


def test_waiting_for_anothers_job_ends_at_once(api: Api, foreign: dict[str, str]) -> None:
    with api.client_of(project="nosy") as theirs:
        path = f"/v1/jobs/{foreign['job_id']}"
        problem(theirs.get(path, params={"wait": 30}), 404, "job-not-found")
        stream = {"Accept": "text/event-stream"}
        problem(theirs.get(f"{path}/events", headers=stream), 404, "job-not-found")


def test_their_owner_finds_them_all(api: Api, foreign: dict[str, str]) -> None:
    for method, path, names in requests(api, foreign):
        if method == "GET" and names <= foreign.keys():
            assert api.http.get(path).status_code == 200, path


def test_no_list_shows_what_is_anothers(api: Api, foreign: dict[str, str]) -> None:
    with api.client_of(project="nosier") as theirs:
        for path, operations in api.app.openapi()["paths"].items():
            if "get" in operations and "{" not in path and not is_keyless(path):
                response = theirs.get(path)
                for name in ("job_id", "file_id", "key_id"):
                    assert foreign[name] not in response.text, path
        queues = {each["name"]: each for each in theirs.get("/v1/queues").json()["items"]}
        assert queues["default"]["scheduled"] == 0
