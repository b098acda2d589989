"""Servers that go away and come back: what is promised meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from pydantic import SecretStr

from dev.postgres import EmbeddedPostgres, temporary_postgres
from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs.settings import Settings
from tests.api.serving import Api, problem, serve
from tests.conftest import migrate
from tests.dev.pids import lives
from tests.eventually import eventually

BODY = {"kind": "test.echo", "args": {}}


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    with temporary_postgres() as server:
        migrate(server.url)
        yield server


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with temporary_valkey() as server:
        yield server


def ready(api: Api) -> tuple[int, str]:
    response = httpx2.get(f"{api.url}/readyz", timeout=40)
    return response.status_code, response.json()["status"]


def test_without_the_database_requests_are_503_until_it_is_back(
    own_postgres: EmbeddedPostgres, settings: Settings, tmp_path: Path
) -> None:
    changes = {"database_url": SecretStr(own_postgres.url), "files_dir": tmp_path}
    with serve(settings.model_copy(update=changes)) as api:
        job_id = api.submit()["id"]
        serving = [each.pid for each in psutil.Process(own_postgres.pid).children()]
        own_postgres.kill()
        eventually(lambda: not any(map(lives, serving)))  # they see it a moment later
        for _ in range(2):
            before = time.monotonic()
            for method, path in (
                ("POST", "/v1/jobs"),
                ("GET", f"/v1/jobs/{job_id}"),
                ("GET", "/v1/jobs"),
                ("DELETE", f"/v1/jobs/{job_id}"),
                ("GET", "/v1/queues"),
            ):
                body = BODY if method == "POST" else None
                response = api.http.request(method, path, json=body)
                problem(response, 503, "database-unavailable")
                assert int(response.headers["retry-after"]) >= 1
            assert time.monotonic() - before < 10
        stranger = api.http.get("/v1/jobs", headers={"Authorization": f"Bearer {api.key[:-1]}x"})
        problem(stranger, 401, "unauthenticated")
        eventually(lambda: ready(api) == (503, "unavailable"))
        assert api.http.get("/livez").status_code == 200
        metrics = api.http.get("/metrics")
        assert (metrics.status_code, "lading_database_up 0.0" in metrics.text) == (200, True)
        assert "lading_jobs_in_state{" not in metrics.text
        own_postgres.start()
        eventually(lambda: api.http.post("/v1/jobs", json=BODY).status_code == 202)
        assert api.job(job_id)["state"] == "queued"
        eventually(lambda: ready(api) == (200, "ready"))


def test_without_the_broker_jobs_are_accepted_as_quickly(
    own_valkey: EmbeddedValkey, settings: Settings
) -> None:
    url = SecretStr(own_valkey.url)
    with serve(settings.model_copy(update={"broker_url": url})) as api:
        assert ready(api) == (200, "ready")
        own_valkey.kill()
        took = []
        for _ in range(20):
            before = time.monotonic()
            assert api.http.post("/v1/jobs", json=BODY).status_code == 202
            took.append(time.monotonic() - before)
        assert sorted(took)[10] < 0.5
        eventually(lambda: ready(api) == (200, "degraded"))
        assert httpx2.get(f"{api.url}/readyz", timeout=40).json()["broker"] == "away"
        own_valkey.start()
        eventually(lambda: ready(api) == (200, "ready"))


def test_it_starts_without_either_server_and_says_so(settings: Settings) -> None:
    away = {
        "database_url": SecretStr("postgresql://lading@127.0.0.1:1/lading"),
        "broker_url": SecretStr("redis://127.0.0.1:1/0"),
    }
    with serve(settings, **away) as api:
        assert ready(api) == (503, "unavailable")
        problem(api.http.get("/v1/jobs"), 503, "database-unavailable")
        assert api.http.get("/openapi.json").status_code == 200
