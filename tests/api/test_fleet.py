"""Kinds, queues and workers as readers see them."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from api import schemas, standing
from jobs.ids import uuid7
from jobs.workers import WorkerProcess, beat
from tests.api.serving import Api, problem
from tests.api.working import start
from tests.jobs.making import WORKER


@pytest.fixture
def worker(engine: Engine) -> Iterator[UUID]:
    """A worker that holds what `working.start` starts."""
    process = WorkerProcess(WORKER, "host.example", 42, "prefork", ["default", "own"], ["x"], 2)
    with engine.begin() as connection:
        beat(connection, process)
        beat(connection, process._replace(id=uuid7(), queues=["default"], pid=43))
        connection.execute(
            text("UPDATE worker SET seen_at = seen_at - :age WHERE pid = 43"),
            {"age": timedelta(minutes=5)},
        )
    yield WORKER
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM worker"))


def test_kinds_are_listed_with_their_schemas(api: Api) -> None:
    response = api.http.get("/v1/kinds")
    schemas.Kinds.model_validate_json(response.content)
    kinds = {kind["name"]: kind for kind in response.json()["items"]}
    assert list(kinds) == sorted(kinds)
    assert {"demo.sleep", "email.send", "http.request", "test.echo"} <= kinds.keys()
    flaky = kinds["test.flaky"]
    assert flaky["defaults"] == {
        "priority": 5,
        "max_attempts": 5,
        "timeout": None,
        "retry": {"base": 0.05, "cap": 0.2},
    }
    assert flaky["description"].startswith("Fails `times` times")
    assert set(flaky["args_schema"]["properties"]) == {"times", "path"}
    assert flaky["result_schema"] == {"type": "integer"}
    assert kinds["test.echo"]["result_schema"] is None
    assert flaky["memory_limit"] is None
    assert kinds["test.waits"]["defaults"]["timeout"] == 60
    assert kinds["test.echo_io"]["queue"] == "io"


def test_one_kind_is_read_and_an_unknown_one_is_404(api: Api) -> None:
    response = api.http.get("/v1/kinds/test.secret")
    schemas.Kind.model_validate_json(response.content)
    assert response.json()["args_schema"]["properties"]["password"]["writeOnly"] is True
    for name in ("no.such", "%00", "Test.Secret"):
        problem(api.http.get(f"/v1/kinds/{name}"), 404, "kind-not-found")


def test_queues_say_what_waits_and_who_serves_them(api: Api, engine: Engine, worker: UUID) -> None:
    def queues() -> dict[str, dict[str, object]]:
        response = api.http.get("/v1/queues")
        standing.Queues.model_validate_json(response.content)
        return {queue["name"]: queue for queue in response.json()["items"]}

    assert queues()["io"] == {
        "name": "io",
        "queued": 0,
        "running": 0,
        "scheduled": 0,
        "oldest_wait_seconds": None,
        "paused": False,
        "pause": None,
        "workers": 0,
    }
    for _ in range(3):
        job_id = api.submit(queue="own")["id"]
    api.submit(queue="own", delay=60)
    start(engine, job_id)
    own = queues()["own"]
    assert (own["queued"], own["running"], own["scheduled"], own["workers"]) == (2, 1, 1, 1)
    assert isinstance(own["oldest_wait_seconds"], float)
    assert 0 < own["oldest_wait_seconds"] < 60
    assert api.http.post("/v1/queues/idle/pause").status_code == 200
    assert queues()["idle"]["paused"] is True
    with api.client_of(project="another") as theirs:
        names = {queue["name"] for queue in theirs.get("/v1/queues").json()["items"]}
        assert "idle" not in names


def test_workers_that_live_are_listed(api: Api, engine: Engine, worker: UUID) -> None:
    start(engine, api.submit()["id"])
    response = api.http.get("/v1/workers")
    schemas.Workers.model_validate_json(response.content)
    (found,) = response.json()["items"]
    assert found["running"] >= 1
    assert {name: found[name] for name in ("id", "host", "pid", "pool", "queues", "slots")} == {
        "id": str(worker),
        "host": "host.example",
        "pid": 42,
        "pool": "prefork",
        "queues": ["default", "own"],
        "slots": 2,
    }
