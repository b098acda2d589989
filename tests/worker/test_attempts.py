"""Attempts in real pools: what a handler does, and what the job's row and its events say then."""

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
import sqlalchemy as sa
from pytest_celery import CeleryTestSetup

from jobs.broker import Bell
from jobs.files import FileStore
from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually
from tests.worker.platform import Platform

pytestmark = pytest.mark.usefixtures("celery_setup")


@pytest.mark.parametrize("kind", ["test.echo", "test.echo_io"])
def test_a_plain_success_writes_three_events(platform: Platform, kind: str) -> None:
    job = platform.submit(kind, {"value": {"any": ["JSON", 1.5, None]}})
    row = platform.finish(job)
    assert (row.state, row.result) == (JobState.SUCCEEDED, {"any": ["JSON", 1.5, None]})
    assert platform.types(job) == ["created", "started", "succeeded"]
    assert platform.attempts(job) == [(1, "succeeded", None)]


def test_a_pool_process_tells_what_it_took(platform: Platform) -> None:
    job = platform.submit("test.echo")
    platform.finish(job)
    statement = sa.text("SELECT * FROM job_attempt WHERE job_id = :id")
    with platform.engine.connect() as connection:
        usage = connection.execute(statement, {"id": job.id}).one()
    assert usage.max_rss_bytes > 20 * 1024 * 1024
    assert 0 < usage.cpu_seconds < 1
    assert 0 < usage.run_seconds < 30


def test_an_exception_is_retried_until_the_budget_is_spent(platform: Platform) -> None:
    job = platform.submit("test.raises", {"value": "way"})
    row = platform.finish(job)
    assert (row.state, row.failures, row.attempt) == (JobState.FAILED, 2, 2)
    assert (row.error["cause"], row.error["type"]) == ("exception", "RuntimeError")
    assert row.error["message"] == "no: way"
    assert platform.types(job)[2:] == ["retrying", "queued", "started", "failed"]
    assert platform.attempts(job) == [(1, "retried", "exception"), (2, "failed", "exception")]


def test_a_traceback_begins_in_the_handler(platform: Platform) -> None:
    trace = platform.run("test.raises", {"value": 1}).error["traceback"]
    frames = [line for line in trace.splitlines() if line.startswith("  File")]
    assert len(frames) == 1
    assert "kinds_for_tests.py" in frames[0]


def test_a_handler_may_ask_for_a_retry_after_a_while(platform: Platform, notes: Path) -> None:
    job = platform.submit("test.flaky", {"times": 2, "path": str(notes)})
    row = platform.finish(job)
    assert (row.state, row.result, row.failures) == (JobState.SUCCEEDED, 3, 2)
    assert notes.read_text() == "start 1\nstart 2\nstart 3\n"
    retries = [data for type_, data in platform.events(job) if type_ == "retrying"]
    assert [data["error"]["type"] for data in retries] == ["Retry", "Retry"]


def test_a_handler_may_give_up_for_good(platform: Platform) -> None:
    row = platform.run("test.gives_up", {"value": 1})
    assert (row.state, row.attempt) == (JobState.FAILED, 1)
    assert row.error == {"cause": "fail", "type": "Fail", "message": "for good: 1"}


def test_a_handler_may_cancel_its_job(platform: Platform) -> None:
    job = platform.submit("test.cancels_itself")
    assert platform.finish(job).state is JobState.CANCELLED
    assert platform.events(job)[-1] == ("cancelled", {"reason": "not wanted any more"})


def test_what_a_handler_says_is_stored_before_its_end(platform: Platform) -> None:
    job = platform.submit("test.talks", {"value": [1]})
    assert platform.finish(job).progress == {"fraction": 0.75, "message": None}
    events = platform.events(job)
    types = [type_ for type_, _ in events]
    assert (types[:3], types[-1]) == (["created", "started", "log"], "succeeded")
    # Mostly one event of each: the recorder may wake up between them.
    assert {*types[3:-1]} - {"log"} == {"progress"}
    first, second = (line for type_, data in events if type_ == "log" for line in data["lines"])
    assert (first["level"], first["message"], first["fields"]) == (
        "info",
        "one line",
        {"value": [1]},
    )
    assert (second["level"], second["message"]) == ("warning", "another")


def test_what_cannot_be_stored_is_replaced(platform: Platform) -> None:
    job = platform.submit("odd.unstorable")
    row = platform.finish(job)
    assert row.result == {"text": "a\ufffdb?", "number": None}
    assert row.progress == {"fraction": 0.0, "message": "\ufffd"}
    line = dict(platform.events(job))["log"]["lines"][0]
    assert line["message"] == "a NUL \ufffd and half a pair ?"
    assert line["fields"]["far"] == "inf"


def test_an_error_that_cannot_be_stored_is_bounded_and_replaced(platform: Platform) -> None:
    row = platform.run("odd.unstorable_error")
    assert row.error["message"].startswith("a\ufffdb?long")
    assert len(row.error["message"]) == 4000
    assert len(row.error["traceback"]) <= 16_001


def test_a_result_that_is_no_json_fails_the_attempt(platform: Platform) -> None:
    row = platform.run("odd.not_json")
    assert (row.state, row.error["type"]) == (JobState.FAILED, "PydanticSerializationError")


def test_a_result_has_at_most_a_mebibyte(platform: Platform) -> None:
    assert platform.run("odd.big", {"count": 1024 * 1024 - 2}).state is JobState.SUCCEEDED
    row = platform.run("odd.big", {"count": 1024 * 1024 - 1})
    assert (row.state, row.attempt, row.error["cause"]) == (JobState.FAILED, 1, "fail")
    assert "1048576" in row.error["message"]


def test_stored_args_that_fit_no_more_fail_at_once(platform: Platform) -> None:
    job = platform.submit("odd.number", {"number": 1})
    platform.execute('UPDATE job SET args = \'{"number": "hunter2"}\' WHERE id = :id', id=job.id)
    row = platform.finish(job)
    assert (row.state, row.attempt, row.error["cause"]) == (JobState.FAILED, 1, "invalid_args")
    assert "#/args/number" in row.error["message"]
    assert "hunter2" not in str(row.error)


def test_a_handler_that_exits_has_failed_and_its_process_lives(
    platform: Platform, celery_setup: CeleryTestSetup
) -> None:
    before = celery_setup.worker.container.children
    row = platform.run("odd.exits")
    assert (row.state, row.error["type"], row.crashes) == (JobState.FAILED, "SystemExit", 0)
    assert celery_setup.worker.container.children == before


def test_a_stale_doorbell_changes_nothing(
    platform: Platform, celery_setup: CeleryTestSetup
) -> None:
    job = platform.submit("test.echo", {"value": 1})
    platform.finish(job)
    before = platform.row(job)
    for attempt in (1, 2, 7):
        platform.ring(job, attempt)
    platform.run("test.echo")  # those before it have been heard
    eventually(lambda: platform.broker.queue_length("default") == 0)
    assert platform.row(job) == before


def test_a_doorbell_of_an_unknown_kind_is_dropped(
    platform: Platform, celery_setup: CeleryTestSetup
) -> None:
    job = platform.submit("test.echo")
    platform.ring(job._replace(kind="nobody.knows"))
    celery_setup.worker.assert_log_exists("nobody.knows", timeout=40)
    assert platform.row(job).state is JobState.QUEUED
    assert platform.run("test.echo").state is JobState.SUCCEEDED


def test_a_doorbell_may_name_several_attempts(platform: Platform) -> None:
    jobs = [platform.submit(kind) for kind in ("test.echo", "test.echo", "test.gives_up")]
    stale = platform.submit("test.echo")
    platform.cancel(stale)
    attempts = tuple((job.id, 1) for job in (jobs[0], stale, *jobs[1:]))
    platform.broker.ring([Bell("default", "test.echo", attempts, 5)])
    states = [platform.ended(job).state for job in jobs]
    assert states == [JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED]
    assert platform.types(stale) == ["created", "cancelled"]


def test_secrets_stay_in_the_database(
    platform: Platform, celery_setup: CeleryTestSetup, settings: Settings
) -> None:
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as client:
        seen: list[str] = []
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.psubscribe("*")
        celery_setup.app.control.enable_events()
        job = platform.submit("test.secret", {"user": "ada", "password": "hunter2"})
        platform.ring(job)
        seen.extend(readable(value) for key in client.scan_iter() for value in values(client, key))
        row = platform.finish(job)

        def has_ended() -> bool:
            if message := listener.get_message(timeout=0.1):
                seen.append(readable(message["data"]))
            return bool(message) and "task-succeeded" in seen[-1] and f"{job.id}:1" in seen[-1]

        eventually(has_ended)
        celery_setup.app.control.disable_events()
    assert (row.result, row.redacted_args["password"]) == (7, "**********")
    everything = "".join([*seen, celery_setup.worker.logs()])
    assert "hunter2" not in everything


def test_a_stored_step_is_not_run_again(platform: Platform, notes: Path) -> None:
    job = platform.submit("test.steps", {"times": 1, "path": str(notes)})
    row = platform.finish(job)
    assert (row.state, row.result) == (JobState.SUCCEEDED, [1, 2])
    assert notes.read_text() == "one\n"
    steps = [data["name"] for type_, data in platform.events(job) if type_ == "step"]
    assert steps == ["one", "two"]


def test_async_handlers_await_steps_and_children(platform: Platform, notes: Path) -> None:
    row = platform.run("odd.steps_io", {"times": 1, "path": str(notes)})
    first, second, child = row.result
    assert (row.attempt, first, second) == (2, {"one": 1}, [1, 2])
    assert notes.read_text() == "one\n"
    assert [(each.kind, each.labels) for each in _children(platform, row.id)] == [
        ("test.echo", {"of": "io"})
    ]
    assert [str(each.id) for each in _children(platform, row.id)] == [child]


def test_a_step_that_is_no_json_fails_the_attempt(platform: Platform) -> None:
    row = platform.run("odd.bad_step")
    assert (row.state, row.error["type"]) == (JobState.FAILED, "TypeError")
    assert "'one'" in row.error["message"]


def test_a_later_attempt_submits_no_child_again(platform: Platform, notes: Path) -> None:
    row = platform.run("odd.families", {"times": 1, "path": str(notes)})
    first, second = notes.read_text().splitlines()
    assert first == second == " ".join(row.result)
    children = _children(platform, row.id)
    assert [str(child.id) for child in children] == row.result
    assert [child.args for child in children] == [{"value": 1}, {"value": 2}]
    assert {(child.priority, child.state) for child in children} == {(7, JobState.QUEUED)}
    assert {UUID(each).version for each in row.result} == {7}


def test_a_child_that_is_refused_fails_its_parent_for_good(platform: Platform) -> None:
    row = platform.run("odd.bad_child")
    assert (row.state, row.attempt, row.error["cause"]) == (JobState.FAILED, 1, "fail")
    assert "#/args/number" in row.error["message"]


def test_a_handler_saves_and_opens_files(
    platform: Platform, settings: Settings, tmp_path: Path
) -> None:
    job = platform.submit("odd.copies", {"path": str(tmp_path / "made")})
    file_id = UUID(platform.finish(job).result)
    statement = sa.text("SELECT name, size, job_id FROM file WHERE id = :id")
    with platform.engine.connect() as connection:
        row = connection.execute(statement, {"id": file_id}).one()
    assert (row.name, row.size, row.job_id) == ("../../etc/passwd", 10, job.id)
    assert FileStore(settings.files_dir).path_of(file_id).read_bytes() == b"some bytes"


def test_a_file_that_is_not_there_fails_the_job_for_good(platform: Platform) -> None:
    row = platform.run("odd.no_file")
    assert (row.state, row.error["cause"]) == (JobState.FAILED, "fail")
    assert "7d1e6a5e" in row.error["message"]


@pytest.mark.parametrize("count", [250, 10_450])
def test_the_oldest_lines_of_a_flood_give_way(platform: Platform, count: int) -> None:
    job = platform.submit("odd.chatters", {"count": count})
    assert platform.finish(job).result == count
    logs = [data for type_, data in platform.events(job) if type_ == "log"]
    kept = [line["message"] for data in logs for line in data.get("lines", [])]
    dropped = sum(data.get("dropped", 0) for data in logs)
    assert len(kept) + dropped == count
    assert kept == [f"line {index}" for index in range(dropped, count)]
    assert min(count, 9_900) <= len(kept) <= 10_000
    assert all(len(data.get("lines", [])) <= 100 for data in logs)


def test_lines_and_progress_are_sent_while_the_handler_runs(
    platform: Platform, notes: Path
) -> None:
    job = platform.start("odd.chatters_io", {"path": str(notes)})
    for type_ in ("log", "progress"):
        eventually(lambda: platform.types(job).count(type_) >= 3)  # noqa: B023
    assert platform.row(job).state is JobState.RUNNING
    Path(f"{notes}.go").touch()
    assert platform.finish(job).state is JobState.SUCCEEDED


def _children(platform: Platform, parent: UUID) -> list[sa.Row[Any]]:
    statement = sa.text("SELECT * FROM job WHERE parent_id = :parent ORDER BY args::text")
    with platform.engine.connect() as connection:
        return [*connection.execute(statement, {"parent": parent})]


def values(client: Any, key: bytes) -> Any:
    """Whatever lies under the key."""
    match client.type(key):
        case b"none":  # it has just been taken
            return []
        case b"string":
            return [client.get(key)]
        case b"list":
            return client.lrange(key, 0, -1)
        case b"hash":
            return client.hvals(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case other:
            raise AssertionError(f"a key of type {other!r}")


def readable(message: bytes) -> str:
    """The message, with the body that kombu has packed into it."""
    text = message.decode(errors="replace")
    try:
        body = json.loads(text)["body"]
    except (ValueError, KeyError, TypeError):
        return text
    return text + base64.b64decode(body).decode()
