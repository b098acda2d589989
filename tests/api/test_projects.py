"""Projects: made by the operator, closed to each other on every address there is."""

import re

import httpx2
import pytest
from sqlalchemy import Engine

from api import operating, schemas
from api.authentication import is_keyless
from tests.api.belongings import Belongings, example
from tests.api.serving import Api, problem


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
def foreign(api: Api, engine: Engine) -> Belongings:
    """What the project `default` has of everything that has an id."""
    belongings = Belongings(api, engine)
    for _, template in operations(api):
        belongings.path(template)
    return belongings


#: Names in addresses that are no ids of a project's rows: what anybody may name.
SHARED = {"kind", "queue", "limit"}


def operations(api: Api) -> list[tuple[str, str]]:
    """Every operation on something that has an id: its method, and its address with names."""
    return [
        (method.upper(), template)
        for template, found in api.app.openapi()["paths"].items()
        if not is_keyless(template) and {*re.findall(r"{(\w+)}", template)} - SHARED
        for method in found
    ]


def seen(api: Api, foreign: Belongings) -> dict[str, str]:
    """All that its owner can read of it."""
    paths = [foreign.path(template) for method, template in operations(api) if method == "GET"]
    answers = {path: api.http.get(path) for path in paths}
    assert {path for path, answer in answers.items() if answer.status_code != 200} == set()
    return {path: answer.text for path, answer in answers.items()}


def test_no_address_opens_what_is_anothers(api: Api, foreign: Belongings) -> None:
    before = seen(api, foreign)
    assert len(before) > 15
    with api.client_of(project="nosy") as theirs:
        for method, template in operations(api):
            path, body = foreign.path(template), example(api, method, template)
            response = theirs.request(method, path, **({} if body is None else {"json": body}))
            assert response.status_code == 404, (method, path, response.text)
    assert len(operations(api)) > 40
    assert seen(api, foreign) == before


@pytest.mark.parametrize("gate", ["key:theirs", "kind:test.echo", "queue:default"])
def test_nobody_limits_or_pauses_what_is_anothers(api: Api, gate: str) -> None:
    before = api.http.get(f"/v1/limits/{gate}").json()
    with api.client_of(project="busy") as theirs:
        made = theirs.put(f"/v1/limits/{gate}", json={"concurrency": 1})
        assert made.is_success
        assert theirs.post(f"/v1/limits/{gate}/pause", json={}).is_success
        after = api.http.get(f"/v1/limits/{gate}").json()
        unnamed = {"instance", "request_id"}
        assert {k: v for k, v in after.items() if k not in unnamed} == {
            k: v for k, v in before.items() if k not in unnamed
        }
        assert theirs.delete(f"/v1/limits/{gate}").is_success


def test_waiting_for_anothers_job_ends_at_once(api: Api, foreign: Belongings) -> None:
    with api.client_of(project="nosy") as theirs:
        path = f"/v1/jobs/{foreign.of('job_id')}"
        problem(theirs.get(path, params={"wait": 30}), 404, "job-not-found")
        stream = {"Accept": "text/event-stream"}
        problem(theirs.get(f"{path}/events", headers=stream), 404, "job-not-found")


def test_no_list_shows_what_is_anothers(api: Api, foreign: Belongings) -> None:
    with api.client_of(project="nosier") as theirs:
        for path, operations in api.app.openapi()["paths"].items():
            if "get" in operations and "{" not in path and not is_keyless(path):
                response = theirs.get(path)
                for name in foreign.ids.keys() - SHARED - {"project_id"}:
                    assert foreign.of(name) not in response.text, (path, name)
        queues = {each["name"]: each for each in theirs.get("/v1/queues").json()["items"]}
        assert queues["default"]["scheduled"] == 0
