"""What is old is forgotten, counted out, and nothing else is touched."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import balance, lifecycle, retention
from jobs.files import FileStore
from jobs.ids import FIRST
from jobs.retention import SLICE, Pruned, Terms
from tests.jobs.living import ERROR, claim, fail, submit, succeed
from tests.jobs.making import PROJECT, read_events
from tests.jobs.overseeing import clear

DAY = timedelta(days=1)
TERMS = Terms(
    succeeded=7 * DAY, failed=30 * DAY, logs=7 * DAY, keys=DAY, audit=365 * DAY, events=30 * DAY
)
PROCESS = uuid4()


@pytest.fixture
def clean(connection: Connection) -> Connection:
    clear(connection)
    return connection


def age(connection: Connection, days: int) -> None:
    """Everything that has ended has done so that many days ago."""
    statement = text("UPDATE job SET finished_at = finished_at - :age")
    connection.execute(statement, {"age": days * DAY})


def prune(connection: Connection) -> int:
    pruned, jobs = Pruned(FIRST, 0), 0
    while pruned.reach is not None:
        pruned = retention.prune_jobs(connection, TERMS, pruned.reach, PROCESS)
        jobs += pruned.jobs
    return jobs


def left(connection: Connection) -> set[str]:
    return {*connection.execute(text("SELECT CAST(state AS text) FROM job")).scalars()}


def some_jobs(connection: Connection, days: int) -> None:
    """One in each of six states, made that many days ago."""
    _, running, succeeded, failed, cancelled = submit(connection, 5, ago=days * DAY)
    submit(connection, ago=days * DAY, delay=DAY)
    claim(connection, running)
    succeed(connection, succeeded)
    fail(connection, failed)
    lifecycle.cancel(connection, PROJECT, cancelled, "test")


@pytest.mark.parametrize(
    ("days", "ended"),
    [(6, {"succeeded", "cancelled", "failed"}), (8, {"failed"}), (31, set[str]())],
)
def test_ended_jobs_are_kept_for_their_time(clean: Connection, days: int, ended: set[str]) -> None:
    some_jobs(clean, days)
    age(clean, days)
    assert prune(clean) == 3 - len(ended)
    assert left(clean) == {"queued", "running", "scheduled"} | ended
    assert balance.compare(clean) == []
    orphans = "SELECT count(*) FROM job_event WHERE job_id NOT IN (SELECT id FROM job)"
    assert clean.execute(text(orphans)).scalar_one() == 0


def test_what_was_born_long_ago_and_has_just_ended_is_kept(clean: Connection) -> None:
    some_jobs(clean, 31)
    assert prune(clean) == 0


def test_log_lines_go_before_their_job(clean: Connection) -> None:
    job_id = submit(clean, ago=8 * DAY)[0]
    attempt = claim(clean, job_id)
    lines: list[dict[str, Any]] = [{"message": "one"}, {"message": "two"}]
    lifecycle.record_log(clean, job_id, attempt=attempt, lines=lines)
    lifecycle.fail(clean, job_id, attempt=attempt, error=ERROR)
    age(clean, 8)
    assert prune(clean) == 0
    assert [event.data for event in read_events(clean, job_id) if event.type == "log"] == [
        {"dropped": 2}
    ]
    assert prune(clean) == 0


def test_many_go_in_slices_and_locked_ones_later(engine: Engine) -> None:
    with engine.begin() as connection:
        clear(connection)
        jobs = submit(connection, SLICE, ago=8 * DAY)
        for job_id in jobs[:3]:
            succeed(connection, job_id)
        age(connection, 8)
    with engine.begin() as one, engine.begin() as other:
        one.execute(text("SELECT FROM job WHERE id = :id FOR UPDATE"), {"id": jobs[1]})
        first = retention.prune_jobs(other, TERMS, FIRST, PROCESS)
        assert first.jobs == 2
        assert first.reach is not None
        assert retention.prune_jobs(other, TERMS, first.reach, PROCESS) == Pruned(None, 0)
    with engine.begin() as connection:
        assert prune(connection) == 1
        assert balance.compare(connection) == []
        clear(connection)


def test_keys_are_remembered_for_their_time(clean: Connection) -> None:
    for number in range(5):
        clean.execute(
            text("""
                INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids, created_at)
                VALUES ('default', :key, '', '{}', now() - :age)
            """),
            {"key": str(number), "age": timedelta(hours=10 * number)},
        )
    assert retention.prune_keys(clean, TERMS, 1) == 1
    assert retention.prune_keys(clean, TERMS, 10) == 1
    left = clean.execute(text("SELECT key FROM idempotency_key ORDER BY key")).scalars()
    assert [*left] == ["0", "1", "2"]


def test_abandoned_uploads_go_and_others_stay(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert store.forget_incoming(DAY) == 0
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "abandoned").write_bytes(b"x")
    assert store.forget_incoming(DAY) == 0
    assert store.forget_incoming(-DAY) == 1
    assert not [*(tmp_path / "incoming").iterdir()]
