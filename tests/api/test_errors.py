"""Whatever goes wrong is a problem document, and what every request passes."""

import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from api.edge import MAX_BODY_BYTES
from api.errors import TABLE, problem_of
from api.problems import TYPES
from jobs import errors
from jobs.states import JobState
from tests.api.serving import Api, problem

EXAMPLES: list[errors.JobsError] = [
    errors.JobNotFound(uuid4()),
    errors.FileMissing(uuid4()),
    errors.KeyMissing("abc"),
    errors.LimitMissing("smtp"),
    errors.WebhookMissing(uuid4()),
    errors.DeliveryMissing(uuid4()),
    errors.WebhookOff(uuid4()),
    errors.DeliveryPending(uuid4()),
    errors.SecretKeyMissing(),
    errors.EventMissing(uuid4()),
    errors.ConsumerMissing("billing"),
    errors.ConsumerTaken("billing"),
    errors.ConsumerDeleted("billing"),
    errors.PositionUnknown(),
    errors.TriggerMissing(uuid4()),
    errors.TriggerInCode(uuid4()),
    errors.CountDiffers(3, 4),
    errors.BulkMissing(uuid4()),
    errors.BulkEnded(uuid4()),
    errors.BulkTooLarge(1000),
    errors.KeyGone("abc"),
    errors.ProjectMissing("shop"),
    errors.ProjectExists("shop"),
    errors.ScheduleMissing(uuid4()),
    errors.ScheduleExists("nightly"),
    errors.ScheduleFromCode("@report.daily"),
    errors.InvalidTransition(uuid4(), JobState.RUNNING, "retry"),
    errors.LeaseLost(uuid4(), 1),
    errors.InvalidSubmission(errors.Flaw("#/args", "is wrong")),
    errors.KeyReused("key", datetime.now(UTC)),
    errors.KeyInFlight("key"),
    errors.JobDeleted("key"),
    errors.UniqueConflict("key", uuid4()),
    errors.BatchNotFound(uuid4()),
    errors.BatchClosed(uuid4(), "adding jobs"),
    errors.DatabaseUnavailable(),
    errors.BrokerUnavailable(),
]


def test_every_error_of_the_domain_has_its_problem() -> None:
    all_errors = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value)
        and issubclass(value, errors.JobsError)
        and value is not errors.JobsError
    }
    assert set(TABLE) == all_errors
    assert {type(example) for example in EXAMPLES} == all_errors
    for example in EXAMPLES:
        document = problem_of(example).document()
        assert document["code"] in TYPES
        assert document["detail"]


def test_an_unknown_address_is_404(api: Api) -> None:
    for path in ("/v1/nothing", "/nothing", "/static/nothing", "/static/../app.py", "/v1/jobs/"):
        problem(api.http.get(path), 404, "not-found")


def test_a_method_that_is_not_possible_is_405_and_says_which_are(api: Api) -> None:
    job_id = uuid4()
    for method, path, allowed in (
        ("PUT", "/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", f"/v1/jobs/{job_id}", "DELETE, GET, HEAD, OPTIONS"),
        ("DELETE", f"/v1/jobs/{job_id}/attempts", "GET, HEAD, OPTIONS"),
        ("GET", f"/v1/jobs/{job_id}/cancel", "OPTIONS, POST"),
        ("GET", "/v1/jobs/batch", "OPTIONS, POST"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
    ):
        response = api.http.request(method, path)
        problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == allowed


def test_options_lists_the_methods(api: Api) -> None:
    response = api.http.options("/v1/files")
    assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")
    assert "access-control-allow-origin" not in response.headers
    assert api.http.options("/v1/jobs/batch").headers["allow"] == "OPTIONS, POST"


def test_head_is_get_without_the_body(api: Api) -> None:
    job = api.submit()
    for path in (f"/v1/jobs/{job['id']}", "/v1/kinds", "/livez", "/openapi.json"):
        got, head = api.http.get(path), api.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers["content-type"] == got.headers["content-type"]
    assert api.http.head(f"/v1/jobs/{uuid4()}").status_code == 404
    assert api.http.get("/v1/kinds").status_code == 200


def body_of(size: int) -> bytes:
    start = b'{"kind": "test.echo", "args": {}, "x": "'
    return start + b"x" * (size - len(start) - 2) + b'"}'


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


@pytest.mark.parametrize("send", [bytes, chunked])
def test_a_body_over_a_mebibyte_is_413(api: Api, send: Any) -> None:
    headers = {"Content-Type": "application/json"}
    fits = api.http.post("/v1/jobs", content=send(body_of(MAX_BODY_BYTES)), headers=headers)
    problem(fits, 422, "validation-failed")
    for path in ("/v1/jobs", "/v1/jobs/batch", "/v1/keys"):
        large = api.http.post(path, content=send(body_of(MAX_BODY_BYTES + 1)), headers=headers)
        found = problem(large, 413, "payload-too-large")
        assert str(MAX_BODY_BYTES) in found["detail"]
    assert api.http.get("/v1/kinds").status_code == 200


def test_a_request_has_an_id(api: Api) -> None:
    made = api.http.get("/livez").headers["x-request-id"]
    assert UUID(made).version == 7
    given = api.http.get("/livez", headers={"X-Request-ID": "trace/42:a"})
    assert given.headers["x-request-id"] == "trace/42:a"
    refused = api.http.get("/v1/nothing", headers={"X-Request-ID": "trace-43"})
    assert problem(refused, 404, "not-found")["request_id"] == "trace-43"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", "a\tb"])
def test_an_id_that_is_not_sane_is_replaced(api: Api, given: str) -> None:
    response = api.http.get("/livez", headers=[(b"X-Request-ID", given.encode())])
    assert UUID(response.headers["x-request-id"])


def test_the_type_of_a_problem_leads_to_its_description(api: Api) -> None:
    found = problem(api.http.get(f"/v1/jobs/{uuid4()}"), 404, "job-not-found")
    page, _, anchor = found["type"].partition("#")
    text = httpx2.get(f"{api.url}{page}", timeout=40).text
    assert f'id="{anchor}"' in text
    assert set(re.findall(r'<h2 id="([a-z-]+)"', text)) == set(TYPES)


def test_what_was_not_foreseen_is_500_without_internals(api: Api) -> None:
    response = api.http.get("/v1/test-failure", headers={"X-Request-ID": "seen-in-the-log"})
    found = problem(response, 500, "internal-error")
    assert found["request_id"] == "seen-in-the-log"
    assert "secret detail" not in response.text
