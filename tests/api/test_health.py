"""Whether the process lives and is ready, and what it measures."""

import re
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text
from websockets.sync.client import connect

from api import schemas
from jobs import accounts
from jobs.accounts import REASONS
from jobs.settings import Settings
from tests.api.serving import Api, serve
from tests.api.working import start
from tests.eventually import eventually


def test_it_lives_and_is_ready(api: Api) -> None:
    live, ready = api.http.get("/livez"), api.http.get("/readyz")
    assert (live.status_code, live.json()) == (200, {"status": "alive"})
    assert ready.status_code == 200
    schemas.Readiness.model_validate_json(ready.content)
    assert ready.json() == {
        "status": "ready",
        "database": "ok",
        "broker": "ok",
        "draining": False,
        "dispatchers": 0,
        "workers": 0,
        "jobs_unaccounted": None,
        "accounts_checked_at": None,
    }


def test_jobs_that_are_missing_make_it_less_than_ready(settings: Settings, engine: Engine) -> None:
    with serve(settings) as api:
        job_id = UUID(api.submit()["id"])
        with engine.begin() as connection:
            accounts.check_overdue(connection, settings.lease)
            accounts.check_newest(connection)
        found = samples(api)
        unaccounted = {found[f'lading_jobs_unaccounted{{reason="{each}"}}'] for each in REASONS}
        assert unaccounted == {0}
        assert 0 <= found['lading_accounts_age_seconds{check="newest"}'] < 60
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM job WHERE id = :id"), {"id": job_id})
        accounts.check_newest(connection)
    with serve(settings) as api:
        ready = api.http.get("/readyz")
        document = schemas.Readiness.model_validate_json(ready.content)
        assert (ready.status_code, document.status) == (200, "degraded")
        assert (document.database, document.broker) == ("ok", "ok")
        assert document.jobs_unaccounted == 1
        assert document.accounts_checked_at is not None
        assert samples(api)['lading_jobs_unaccounted{reason="missing"}'] == 1
    with engine.begin() as connection:
        for table in ("intake_total", "account_check", "account_finding"):
            connection.execute(text(f"DELETE FROM {table}"))


def test_readers_that_follow_a_job_are_counted(api: Api) -> None:
    job_id = api.submit(delay=3600)["id"]
    headers = {"Authorization": f"Bearer {api.key}"}
    address = api.url.replace("http", "ws") + f"/v1/jobs/{job_id}/ws"
    streaming = {"Accept": "text/event-stream"}

    def counted() -> tuple[float, float]:
        found = samples(api)
        return (
            found['lading_open_streams{transport="sse"}'],
            found['lading_open_streams{transport="ws"}'],
        )

    assert counted() == (0, 0)
    with (
        connect(address, additional_headers=headers) as socket,
        api.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=streaming) as response,
    ):
        assert socket.recv(10)
        assert response.status_code == 200
        assert counted() == (1, 1)
    eventually(lambda: counted() == (0, 0))


def samples(api: Api) -> dict[str, float]:
    response = api.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", response.text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_jobs_are_counted_when_they_are_accepted(settings: Any, engine: Engine) -> None:
    with serve(settings) as api:
        for _ in range(2):
            api.submit(queue="counted", priority=1)
        api.http.post("/v1/jobs/batch", json={"jobs": [{"kind": "test.echo", "args": {}}] * 3})
        for _ in range(2):
            api.http.post(
                "/v1/jobs",
                json={"kind": "test.echo", "args": {}, "queue": "keyed"},
                headers={"Idempotency-Key": "counted"},
            )
        start(engine, api.submit(queue="counted")["id"])
        found = samples(api)

        def submitted(queue: str) -> float:
            return found[f'lading_jobs_submitted_total{{kind="test.echo",queue="{queue}"}}']

        assert (submitted("counted"), submitted("default"), submitted("keyed")) == (3, 3, 1)
        assert found['lading_jobs_in_state{queue="counted",state="queued"}'] == 2
        assert found['lading_jobs_in_state{queue="counted",state="running"}'] == 1
        assert found['lading_jobs_in_state{queue="io",state="queued"}'] == 0
        assert 0 < found['lading_job_oldest_wait_seconds{queue="counted"}'] < 60
        assert found["lading_database_up"] == 1
        assert found["process_resident_memory_bytes"] > 0


def test_gauges_out_of_the_database_are_kept_for_a_while(api: Api) -> None:
    before = samples(api)
    api.submit(queue="unseen")
    after = samples(api)
    gauges = [name for name in before if name.startswith("lading_jobs_in_state")]
    assert gauges
    assert {name: after[name] for name in gauges} == {name: before[name] for name in gauges}
    assert not any('queue="unseen",state' in name for name in after)


def test_ends_and_times_of_all_processes_are_told_by_kind(settings: Any, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO job_figure (kind, measure, label, times, seconds) VALUES
            ('test.told', 'finished', 'succeeded', 3, 0), ('test.told', 'finished', 'failed', 1, 0),
            ('test.told', 'run', '0', 2, 0.01), ('test.told', 'run', '4', 1, 0.75),
            ('test.told', 'run', '12', 1, 4000), ('test.told', 'wait', '1', 4, 0.08)
            """)
        )
    with serve(settings) as api:
        found = samples(api)
    kind = 'kind="test.told"'
    assert found[f'lading_jobs_finished_total{{{kind},outcome="succeeded"}}'] == 3
    assert found[f'lading_jobs_finished_total{{{kind},outcome="failed"}}'] == 1
    runs = {
        bound: found[f'lading_attempt_seconds_bucket{{{kind},le="{bound}"}}']
        for bound in ("0.01", "0.5", "1", "3600", "+Inf")
    }
    assert [*runs.values()] == [2, 2, 3, 3, 4]
    assert found[f"lading_attempt_seconds_count{{{kind}}}"] == 4
    assert found[f"lading_attempt_seconds_sum{{{kind}}}"] == 4000.76
    assert found[f"lading_queue_seconds_count{{{kind}}}"] == 4
