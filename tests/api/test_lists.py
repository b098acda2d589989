"""Pages of jobs, and what belongs to one."""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from api import schemas
from jobs import lifecycle
from tests.api.serving import Api, problem
from tests.api.working import fail, log, retry_later, start, succeed


def listed(api: Api, **parameters: Any) -> dict[str, Any]:
    response = api.http.get("/v1/jobs", params=parameters)
    assert response.status_code == 200, response.text
    schemas.JobPage.model_validate_json(response.content)
    page: dict[str, Any] = response.json()
    return page


def ids(page: dict[str, Any]) -> list[str]:
    return [job["id"] for job in page["items"]]


@pytest.fixture(scope="module")
def numbered(api: Api) -> list[str]:
    """Twelve jobs, newest first."""
    jobs = [
        {"kind": "test.echo", "args": {"value": number}, "labels": {"set": "numbered"}}
        for number in range(12)
    ]
    made = api.http.post("/v1/jobs/batch", json={"jobs": jobs}).json()["jobs"]
    return [job["id"] for job in reversed(made)]


def test_pages_are_newest_first_and_end_with_a_null_cursor(api: Api, numbered: list[str]) -> None:
    found: list[str] = []
    cursor, pages = None, 0
    while cursor or not pages:
        more: dict[str, Any] = {"cursor": cursor} if cursor else {}
        page = listed(api, limit=5, **{"label.set": "numbered"}, **more)
        found, cursor, pages = found + ids(page), page["next_cursor"], pages + 1
        assert len(page["items"]) <= 5
    assert found == numbered
    assert pages == 3


def test_a_page_is_the_same_while_new_jobs_come(api: Api, numbered: list[str]) -> None:
    first = listed(api, limit=3, **{"label.set": "numbered"})
    api.submit(labels={"set": "numbered", "late": "yes"})
    second = listed(api, limit=3, cursor=first["next_cursor"], **{"label.set": "numbered"})
    assert ids(second) == numbered[3:6]
    assert listed(api, **{"label.late": "yes"})["next_cursor"] is None


def test_the_link_header_leads_to_the_next_page(api: Api, numbered: list[str]) -> None:
    response = api.http.get("/v1/jobs?label.set=numbered&limit=10&label.late=no%26")
    assert response.headers["link"].startswith("</v1/jobs?")
    response = api.http.get("/v1/jobs", params={"kind": "test.echo", "limit": "4"})
    links = dict(
        reversed(found) for found in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers["link"])
    )
    assert set(links) == {"first", "next"}
    following = api.http.get(links["next"]).json()
    assert not set(ids(following)) & set(ids(response.json()))
    assert ids(api.http.get(links["first"]).json()) == ids(response.json())
    assert len(following["items"]) == 4


def test_items_leave_out_args_and_results_unless_asked(api: Api, engine: Engine) -> None:
    job_id = api.submit(args={"value": 5}, labels={"full": "?"})["id"]
    succeed(engine, job_id, [6])
    short, full = (listed(api, **{"label.full": "?"}, **more) for more in ({}, {"full": 1}))
    assert not {"args", "result"} & short["items"][0].keys()
    assert (full["items"][0]["args"], full["items"][0]["result"]) == ({"value": 5}, [6])
    assert full["items"][0] == api.job(job_id)


def test_filters_narrow_the_list_and_combine(api: Api, engine: Engine) -> None:
    mine: dict[str, Any] = {"labels": {"mine": "1"}}
    queued = api.submit(queue="narrow", **mine)["id"]
    secret = api.submit("test.secret", args={"user": "x", "password": "y"}, **mine)["id"]
    done = api.submit(**mine)["id"]
    succeed(engine, done)
    broken = api.submit(**mine)["id"]
    fail(engine, broken)

    def found(**parameters: str) -> set[str]:
        return set(ids(listed(api, **{"label.mine": "1"}, **parameters)))

    assert found() == {queued, secret, done, broken}
    assert found(state="succeeded") == {done}
    assert found(state="succeeded,failed") == {done, broken}
    assert set(ids(api.http.get("/v1/jobs?label.mine=1&state=succeeded&state=failed").json())) == {
        done,
        broken,
    }
    assert found(kind="test.secret") == {secret}
    assert found(queue="narrow") == {queued}
    assert found(queue="narrow", state="failed") == set()
    assert found(ids=f"{done},{secret}") == {done, secret}
    assert found(kind="", queue="", state="") == {queued, secret, done, broken}
    assert listed(api, **{"label.mine": "2"})["items"] == []
    assert set(ids(listed(api, **{"label.mine": "1", "label.other": "1"}))) == set()


def test_times_bound_the_list(api: Api) -> None:
    first, second, third = (api.submit(labels={"timed": "1"}) for _ in range(3))
    at = second["created_at"]
    after = listed(api, created_after=at, **{"label.timed": "1"})
    before = listed(api, created_before=at, **{"label.timed": "1"})
    assert (ids(after), ids(before)) == ([third["id"]], [first["id"]])
    tomorrow = (datetime.fromisoformat(at) + timedelta(days=1)).isoformat()
    assert listed(api, created_after=tomorrow)["items"] == []
    assert listed(api, created_before="1970-01-01T00:00:00Z")["items"] == []
    assert listed(api, created_before="8999-01-01T00:00:00Z", limit=1)["items"]


def test_the_limit_is_50_and_at_most_200(api: Api) -> None:
    body = {"jobs": [{"kind": "test.echo", "args": {}, "labels": {"many": "1"}}] * 210}
    api.http.post("/v1/jobs/batch", json=body)
    for limit, items in (({}, 50), ({"limit": 200}, 200), ({"limit": 10**9}, 200)):
        page = listed(api, **{"label.many": "1"}, **limit)
        assert len(page["items"]) == items
        assert page["next_cursor"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("state=done", "state"),
        ("ids=5", "ids"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("created_before=0001-01-01T00:00:00Z", "created_before"),
        ("cursor=abc", "cursor"),
        ("cursor=%C3%BC", "cursor"),
        ("kind=%00", "kind"),
        ("queue=%00", "queue"),
        ("label.a=%00", "label.<key>"),
        ("label.%00=a", "label.<key>"),
        ("full=maybe", "full"),
        ("colour=red", "colour"),
        ("label=red", "label"),
        ("Limit=5", "Limit"),
    ],
)
def test_a_query_that_does_not_fit_is_422(api: Api, query: str, name: str) -> None:
    found = problem(api.http.get(f"/v1/jobs?{query}"), 422, "validation-failed")
    flaw = found["errors"][0]
    assert flaw["in"] == "query"
    assert flaw["pointer"].removeprefix("#/").split("/")[0] == name


def test_more_than_a_hundred_ids_are_refused(api: Api) -> None:
    one = api.submit()["id"]
    assert ids(listed(api, ids=",".join([one] * 100))) == [one]
    problem(
        api.http.get("/v1/jobs", params={"ids": ",".join([one] * 201)}), 422, "validation-failed"
    )


def test_a_cursor_belongs_to_its_filters(api: Api, numbered: list[str]) -> None:
    cursor = listed(api, limit=1, state="queued")["next_cursor"]
    assert listed(api, limit=2, state="queued", full=1, cursor=cursor)
    problem(api.http.get("/v1/jobs", params={"cursor": cursor}), 400, "cursor-mismatch")
    for query in ("state=failed", "state=queued&kind=test.echo"):
        problem(api.http.get(f"/v1/jobs?{query}&cursor={cursor}"), 400, "cursor-mismatch")


@pytest.mark.parametrize("path", ["", "/attempts", "/logs", "/nothing"])
def test_an_unknown_query_key_is_422_everywhere(api: Api, path: str) -> None:
    job_id = api.submit()["id"]
    response = api.http.get(f"/v1/jobs/{job_id}{path}?colour=red")
    if path == "/nothing":
        problem(response, 404, "not-found")
    else:
        problem(response, 422, "validation-failed")


def test_attempts_include_the_running_one(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    path = f"/v1/jobs/{job_id}/attempts"
    assert api.http.get(path).json() == {"items": []}
    retry_later(engine, job_id)
    assert api.http.post(f"/v1/jobs/{job_id}/run-now").status_code == 202
    start(engine, job_id, attempt=2)
    response = api.http.get(path)
    schemas.Attempts.model_validate_json(response.content)
    first, second = response.json()["items"]
    assert (first["attempt"], first["outcome"], first["cause"]) == (1, "retried", "exception")
    assert first["error"]["message"] == "no luck"
    assert first["finished_at"] > first["started_at"]
    assert (second["attempt"], second["outcome"], second["finished_at"]) == (2, None, None)
    assert second["worker"] == first["worker"]
    assert second.keys() == {
        *("attempt", "worker", "started_at", "finished_at", "outcome", "cause", "error"),
        *("max_rss_bytes", "cpu_seconds", "last_logs"),
    }


def test_attempts_tell_their_last_lines(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    start(engine, job_id)
    for number in range(3):
        log(engine, job_id, *(f"{number}.{line}" for line in range(7)))
    with engine.begin() as connection:
        lifecycle.record_log(connection, UUID(job_id), attempt=1, lines=[])
        lifecycle.crash(connection, UUID(job_id), attempt=1, detail="signal 11")
    start(engine, job_id, attempt=2)
    response = api.http.get(f"/v1/jobs/{job_id}/attempts")
    schemas.Attempts.model_validate_json(response.content)
    first, second = response.json()["items"]
    assert [line["message"] for line in first["last_logs"]] == [
        *(f"1.{line}" for line in (4, 5, 6)),
        *(f"2.{line}" for line in range(7)),
    ]
    assert first["last_logs"][0] == {
        "at": "2026-01-02T03:04:05Z",
        "level": "info",
        "message": "1.4",
    }
    assert second["last_logs"] == []


def test_log_lines_are_listed_in_order_and_from_a_seq_on(api: Api, engine: Engine) -> None:
    job_id = api.submit()["id"]
    path = f"/v1/jobs/{job_id}/logs"
    assert api.http.get(path).json() == {"items": []}
    start(engine, job_id)
    log(engine, job_id, "one", "two")
    log(engine, job_id, "three")
    response = api.http.get(path)
    schemas.Log.model_validate_json(response.content)
    lines = response.json()["items"]
    assert [line["message"] for line in lines] == ["one", "two", "three"]
    assert [line["seq"] for line in lines] == [3, 3, 4]
    assert lines[1] == {
        "seq": 3,
        "at": "2026-01-02T03:04:05Z",
        "attempt": 1,
        "level": "info",
        "message": "two",
        "fields": {"n": 1},
    }
    later = api.http.get(f"{path}?after=3").json()["items"]
    assert [line["message"] for line in later] == ["three"]
    for after in ("-1", "x", "99999999999"):
        problem(api.http.get(f"{path}?after={after}"), 422, "validation-failed")
