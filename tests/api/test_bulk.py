"""Bulk operations: counted, confirmed, carried out once for each job, stopped."""

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from api import operating
from jobs import histories
from jobs.bulk.turns import BATCH, take_turn
from jobs.bulk.words import STATES, Op
from jobs.states import FINAL, JobState
from tests.api.serving import Api, problem
from tests.conftest import ROOT
from tests.jobs.making import make_job, read_events, read_job

S = JobState
PROCESS = uuid4()


def make_jobs(engine: Engine, states: Sequence[JobState], **columns: Any) -> list[UUID]:
    error = {"cause": "fail", "type": "Fail", "message": "no"}
    with engine.begin() as connection:
        return [
            make_job(
                connection,
                state,
                attempt=0,
                **({"error": error} if state is S.FAILED else {}),
                **columns,
            )
            for state in states
        ]


def ask(api: Api, op: str, kind: str, status: int = 202, **fields: Any) -> dict[str, Any]:
    """The operation on all jobs of that kind, confirmed by what the preview says."""
    wanted = {"op": op, "filter": {"kind": kind}}
    previewed = api.http.post("/v1/bulk/preview", json=wanted)
    assert previewed.status_code == 200, previewed.text
    operating.BulkPreview.model_validate_json(previewed.content)
    count = previewed.json()["count"]
    body = {**wanted, "expected_count": count, "rate": 10_000, **fields}
    response = api.http.post("/v1/bulk", json=body)
    assert response.status_code == status, response.text
    operating.BulkOperation.model_validate_json(response.content)
    assert response.headers["location"] == response.json()["links"]["self"]
    made: dict[str, Any] = response.json()
    return made


def run(engine: Engine) -> int:
    """Turns until nothing runs any more; how many jobs have moved."""
    moved = 0
    while True:
        with engine.begin() as connection:
            turn = take_turn(connection, PROCESS)
        moved += len(turn.moved)
        if turn.seconds is None:
            return moved
        time.sleep(min(turn.seconds, 0.01))


def read(api: Api, operation: dict[str, Any]) -> dict[str, Any]:
    response = api.http.get(operation["links"]["self"])
    operating.BulkOperation.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def states_of(engine: Engine, ids: Sequence[UUID]) -> list[str]:
    with engine.connect() as connection:
        return [str(read_job(connection, job_id).state) for job_id in ids]


def test_many_are_cancelled_and_what_has_changed_is_skipped(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.QUEUED, S.SCHEDULED, S.RETRYING, S.QUEUED], kind="bulk.cancel")
    ended = make_jobs(engine, [S.SUCCEEDED], kind="bulk.cancel")
    other = make_jobs(engine, [S.QUEUED], kind="bulk.other")
    made = ask(api, "cancel", "bulk.cancel", reason="wrong list")
    assert made["total"] == 4
    late = make_jobs(engine, [S.QUEUED], kind="bulk.cancel")
    api.http.post(f"/v1/jobs/{ids[0]}/cancel")
    assert run(engine) == 3
    assert states_of(engine, ids) == ["cancelled"] * 4
    assert states_of(engine, [*ended, *other, *late]) == ["succeeded", "queued", "queued"]
    found = read(api, made)
    counts = {name: found[name] for name in ("state", "done", "skipped", "failed")}
    assert counts == {"state": "done", "done": 3, "skipped": 1, "failed": 0}
    with engine.connect() as connection:
        assert read_events(connection, ids[1])[-1].data == {"reason": "wrong list"}


def test_another_count_than_confirmed_does_nothing(api: Api, engine: Engine) -> None:
    make_jobs(engine, [S.FAILED] * 2, kind="bulk.count")
    body = {"op": "retry", "filter": {"kind": "bulk.count"}, "expected_count": 3}
    assert problem(api.http.post("/v1/bulk", json=body), 409, "count-differs")["count"] == 2
    assert all(each["total"] != 3 for each in api.http.get("/v1/bulk").json()["items"])
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM bulk_part")).scalar_one() == 0


def test_the_failed_are_retried(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.FAILED, S.CANCELLED, S.QUEUED], kind="bulk.retry")
    made = ask(api, "retry", "bulk.retry")
    assert made["total"] == 2
    run(engine)
    assert states_of(engine, ids) == ["queued"] * 3
    assert read(api, made)["done"] == 2


def test_what_has_ended_is_deleted(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.SUCCEEDED, S.FAILED, S.QUEUED], kind="bulk.delete")
    made = ask(api, "delete", "bulk.delete")
    run(engine)
    assert read(api, made)["done"] == 2
    assert api.http.get(f"/v1/jobs/{ids[0]}").status_code == 404
    assert api.http.get(f"/v1/jobs/{ids[2]}").status_code == 200


def test_a_new_priority_is_an_event_and_no_damage(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.QUEUED, S.SCHEDULED], kind="bulk.priority")
    kept = make_jobs(engine, [S.QUEUED], kind="bulk.priority", priority=9)
    made = ask(api, "reprioritise", "bulk.priority", priority=9)
    run(engine)
    found = read(api, made)
    assert (found["done"], found["skipped"]) == (2, 1)
    for job_id in ids:
        job = api.job(str(job_id))
        assert (job["priority"], job["version"]) == (9, 2)
        event = api.http.get(f"/v1/jobs/{job_id}/events").json()["items"][-1]
        assert event["type"] == "reprioritised"
        assert event["data"] == {"priority": 9, "state": job["state"]}
    assert api.job(str(kept[0]))["version"] == 1
    with engine.begin() as connection:
        connection.execute(  # made by hand, so that their first events tell nothing
            text(
                "UPDATE job_event SET data = jsonb_build_object('state', job.state) FROM job"
                " WHERE job.id = job_id AND type = 'created' AND kind = 'bulk.priority'"
            )
        )
        damaged = {each.job_id for each in histories.find_damage(connection)}
    assert not damaged & {*ids, *kept}


def test_turns_of_several_dispatchers_take_each_job_once(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.QUEUED] * (2 * BATCH + 50), kind="bulk.shared")
    made = ask(api, "cancel", "bulk.shared")
    with ThreadPoolExecutor(3) as pool:
        moved = sum(pool.map(lambda _: run(engine), range(3)))
    run(engine)
    assert moved == len(ids)
    assert set(states_of(engine, ids)) == {"cancelled"}
    assert read(api, made)["done"] == len(ids)


def test_a_turn_that_dies_leaves_nothing_behind(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.QUEUED] * 3, kind="bulk.dies")
    made = ask(api, "cancel", "bulk.dies")
    with engine.connect() as connection, connection.begin() as transaction:
        assert len(take_turn(connection, PROCESS).moved) == 3
        transaction.rollback()
    assert set(states_of(engine, ids)) == {"queued"}
    assert run(engine) == 3
    assert read(api, made)["done"] == 3


def test_an_operation_keeps_to_its_rate_and_can_be_stopped(api: Api, engine: Engine) -> None:
    ids = make_jobs(engine, [S.QUEUED] * 5, kind="bulk.slow")
    made = ask(api, "cancel", "bulk.slow", rate=0.01)
    with engine.begin() as connection:
        assert len(take_turn(connection, PROCESS).moved) == 1
    with engine.begin() as connection:
        turn = take_turn(connection, PROCESS)
    assert turn.moved == []
    assert turn.seconds is not None
    assert 0 < turn.seconds <= 100
    for _ in range(2):
        stopped = api.http.post(made["links"]["stop"])
        assert stopped.status_code == 200
        assert stopped.json()["state"] == "stopped"
    run(engine)
    assert states_of(engine, ids).count("queued") == 4
    entries = api.http.get("/v1/audit", params={"target": made["id"]}).json()["items"]
    assert [entry["action"] for entry in entries] == ["bulk.stop", "bulk.start"]
    assert entries[1]["details"]["total"] == 5


def test_one_that_is_done_cannot_be_stopped(api: Api) -> None:
    made = ask(api, "cancel", "bulk.none")
    assert (made["state"], made["total"]) == ("done", 0)
    problem(api.http.post(made["links"]["stop"]), 409, "bulk-ended")
    problem(api.http.get(f"/v1/bulk/{uuid4()}"), 404, "bulk-not-found")


def test_a_filter_means_what_it_means_in_a_list(api: Api, engine: Engine) -> None:
    make_jobs(engine, [S.QUEUED], kind="bulk.filter", queue="other", labels={"a": "1"})
    make_jobs(engine, [S.QUEUED, S.FAILED], kind="bulk.filter", labels={"a": "2"})
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 2),
        ({"queue": "other"}, 1),
        ({"label": {"a": "2"}}, 1),
        ({"state": ["failed"]}, 0),
        ({"state": ["failed", "queued"]}, 2),
        ({"created_before": "2001-01-01T00:00:00Z"}, 0),
        ({"ids": [str(uuid4())]}, 0),
    ]
    for fields, count in cases:
        body = {"op": "cancel", "filter": {"kind": "bulk.filter", **fields}}
        found = api.http.post("/v1/bulk/preview", json=body).json()
        assert (found["count"], len(found["sample"])) == (count, count), fields
        assert not found["is_capped"]


def test_operations_are_listed_and_a_projects_own(api: Api, engine: Engine) -> None:
    make_jobs(engine, [S.QUEUED], kind="bulk.ours")
    made = ask(api, "cancel", "bulk.ours")
    page = api.http.get("/v1/bulk", params={"limit": 1})
    operating.BulkOperations.model_validate_json(page.content)
    assert page.json()["items"][0]["id"] == made["id"]
    with api.client_of(project="another") as theirs:
        problem(theirs.get(made["links"]["self"]), 404, "bulk-not-found")
        problem(theirs.post(made["links"]["stop"]), 404, "bulk-not-found")
        assert theirs.get("/v1/bulk").json()["items"] == []
        wanted = {"op": "cancel", "filter": {"kind": "bulk.ours"}}
        assert theirs.post("/v1/bulk/preview", json=wanted).json()["count"] == 0
    with api.client_of(scopes=["jobs:read", "jobs:write"]) as theirs:
        problem(theirs.post("/v1/bulk/preview", json=wanted), 403, "insufficient-scope")
    run(engine)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"expected_count": -1},
        {"expected_count": 1_000_001},
        {"expected_count": 0, "rate": 0},
        {"expected_count": 0, "op": "reprioritise"},
        {"expected_count": 0, "priority": 3},
        {"expected_count": 0, "op": "retry", "reason": "x"},
        {"expected_count": 0, "filter": {"color": "red"}},
        {"expected_count": 0, "op": "hide"},
    ],
    ids=range(9),
)
def test_what_makes_no_sense_is_422(api: Api, fields: dict[str, Any]) -> None:
    body = {"op": "cancel", "filter": {"kind": "none"}, **fields}
    problem(api.http.post("/v1/bulk", json=body), 422, "validation-failed")


def test_every_state_is_meant_by_some_word() -> None:
    assert STATES[Op.CANCEL] | STATES[Op.DELETE] == frozenset(S)
    assert STATES[Op.DELETE] == FINAL


@pytest.mark.parametrize("page", ["keys-and-roles", "audit", "bulk-operations"])
def test_the_examples_of_the_docs_run(
    api: Api,
    engine: Engine,
    page: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LADING_URL", api.url)
    monkeypatch.setenv("LADING_API_KEY", api.key)
    wrong = api.submit("demo.sleep", args={"seconds": 0}, labels={"list": "wrong"}, delay=3600)
    found = (ROOT / f"docs/how-to/{page}.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", found, re.DOTALL):
        exec(block, names)
        assert capsys.readouterr().out
        run(engine)  # in the dispatcher's place
    state = api.http.get(f"/v1/jobs/{wrong['id']}").json()["state"]
    assert (state == "cancelled") == (page == "bulk-operations")
