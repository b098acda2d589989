"""Many jobs in one request: all, or none."""

from typing import Any

import pytest

from api import schemas
from tests.api.serving import Api, problem

ECHO: dict[str, Any] = {"kind": "test.echo", "args": {}}


def test_jobs_are_accepted_in_order(api: Api) -> None:
    jobs = [{**ECHO, "args": {"value": number}} for number in range(20)]
    response = api.http.post("/v1/jobs/batch", json={"jobs": jobs})
    assert response.status_code == 202
    made = response.json()["jobs"]
    assert [job["args"]["value"] for job in made] == list(range(20))
    schemas.Jobs.model_validate_json(response.content)
    assert api.job(made[7]["id"]) == made[7]


def test_a_thousand_are_accepted_and_one_more_is_not(api: Api) -> None:
    accepted = api.http.post("/v1/jobs/batch", json={"jobs": [ECHO] * 1000})
    assert len({job["id"] for job in accepted.json()["jobs"]}) == 1000
    refused = api.http.post("/v1/jobs/batch", json={"jobs": [ECHO] * 1001})
    assert problem(refused, 422, "validation-failed")["errors"][0]["pointer"] == "#/jobs"
    problem(api.http.post("/v1/jobs/batch", json={"jobs": []}), 422, "validation-failed")


@pytest.mark.parametrize(
    ("flawed", "pointer"),
    [
        ({"kind": "test.secret", "args": {"user": "me"}}, "#/jobs/3/args/password"),
        ({"kind": "no.such", "args": {}}, "#/jobs/3/kind"),
        ({**ECHO, "priority": 11}, "#/jobs/3/priority"),
    ],
)
def test_one_flaw_refuses_all(api: Api, flawed: dict[str, Any], pointer: str) -> None:
    marked = {**ECHO, "labels": {"batch": pointer}}
    jobs = [marked, marked, marked, flawed, marked]
    found = problem(api.http.post("/v1/jobs/batch", json={"jobs": jobs}), 422, "validation-failed")
    assert [flaw["pointer"] for flaw in found["errors"]] == [pointer]
    assert api.http.get("/v1/jobs", params={"label.batch": pointer}).json()["items"] == []


def test_the_flaws_of_several_jobs_are_named_together(api: Api) -> None:
    jobs = [{"kind": "no.such", "args": {}}, ECHO, {"kind": "nor.such", "args": {}}]
    found = problem(api.http.post("/v1/jobs/batch", json={"jobs": jobs}), 422, "validation-failed")
    assert [flaw["pointer"] for flaw in found["errors"]] == ["#/jobs/0/kind", "#/jobs/2/kind"]
    many = {"jobs": [{"kind": "no.such", "args": {}}] * 500}
    found = problem(api.http.post("/v1/jobs/batch", json=many), 422, "validation-failed")
    assert len(found["errors"]) == 100
