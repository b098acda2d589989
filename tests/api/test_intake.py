"""The writer: many submissions a commit, none lost, none twice, and no neighbour's trouble."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text

from api.intake import IntakeWriter
from api.problems import Problem
from dev.postgres import EmbeddedPostgres
from jobs.enqueue import Accepted, Intake, enqueue
from jobs.errors import DatabaseUnavailable
from jobs.hints import Hints
from jobs.ids import uuid7
from jobs.registry import load_registry
from jobs.settings import Settings
from jobs.submissions import Submission, check, fingerprint
from tests.api.relay import Relay, relay
from tests.api.serving import Api, problem, serve
from tests.eventually import eventually, soon

ECHO = Submission(kind="test.echo", args={})
REGISTRY = load_registry(["tests.kinds_for_tests"])


def post(api: Api, key: str | None = None, **fields: Any) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"kind": "test.echo", "args": {}, **fields}
    return api.http.post("/v1/jobs", json=body, headers=headers)


@contextmanager
def uncommitted(engine: Engine, statement: str = "SELECT 1") -> Iterator[Connection]:
    """A transaction that is rolled back, unless it is committed inside."""
    with engine.connect() as connection:
        connection.execute(text(statement))
        yield connection


def accepted_of(engine: Engine, label: str) -> int:
    statement = text("SELECT count(*) FROM job WHERE labels ->> 'of' = :label")
    with engine.connect() as connection:
        return int(connection.execute(statement, {"label": label}).scalar_one())


def accounts_balance(engine: Engine) -> bool:
    statement = "SELECT (SELECT sum(accepted - removed) FROM intake_total) = count(*) FROM job"
    with engine.connect() as connection:
        return bool(connection.execute(text(statement)).scalar_one())


def test_submissions_that_arrive_during_a_commit_share_the_next(
    settings: Settings, engine: Engine
) -> None:
    async def send(writer: IntakeWriter) -> list[Accepted]:
        with uncommitted(engine, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE"):
            tasks = [asyncio.create_task(writer.submit(an_intake())) for _ in range(64)]
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    jobs = [accepted.jobs[0] for accepted in run(settings, send)]
    assert len({job.id for job in jobs}) == 64
    assert len({job.created_at for job in jobs}) <= 2  # one statement, one time
    assert accounts_balance(engine)


def test_a_crowd_is_served_without_loss(api: Api, engine: Engine) -> None:
    label = str(uuid4())

    def send(number: int) -> str:
        key = f"{label}-{number // 2}" if number % 4 == 0 else None
        answer = post(api, key, labels={"of": label})
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    with ThreadPoolExecutor(32) as pool:
        ids = set(pool.map(send, range(400)))
    assert len(ids) == accepted_of(engine, label) == 400
    assert accounts_balance(engine)


def test_a_twin_in_another_process_is_waited_for_and_replayed(api: Api, engine: Engine) -> None:
    key = str(uuid4())
    with ThreadPoolExecutor(1) as pool, uncommitted(engine) as connection:
        twin = check(REGISTRY, ECHO)
        intake = Intake("default", [twin], key, fingerprint([ECHO], batch=False))
        enqueue(connection, [intake], process_id=uuid7())
        waiting = pool.submit(post, api, key)
        eventually(lambda: is_blocked(engine), every=0.005)
        connection.commit()
        answer = waiting.result()
    assert (answer.status_code, answer.json()["id"]) == (202, str(twin.id))
    assert answer.headers["idempotency-replayed"] == "true"


def is_blocked(engine: Engine) -> bool:
    statement = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'lading intake' AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:
        return bool(connection.execute(text(statement)).scalar_one())


def test_a_twin_that_does_not_end_is_409_and_stalls_nobody(api: Api, engine: Engine) -> None:
    soon(lambda: seconds_beside_a_twin(api, engine), below=0.5)


def seconds_beside_a_twin(api: Api, engine: Engine) -> float:
    """What the quickest of the others took meanwhile."""
    key, took = str(uuid4()), [math.inf]
    taken = (
        "INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids)"
        f" VALUES ('default', '{key}', '', ARRAY[]::uuid[])"
    )
    with ThreadPoolExecutor(1) as pool, uncommitted(engine, taken):
        before = time.monotonic()
        blocked = pool.submit(post, api, key)
        while not blocked.done():
            sent = time.monotonic()
            assert post(api).status_code == 202
            assert post(api, str(uuid4())).status_code == 202
            took.append((time.monotonic() - sent) / 2)
        waited = time.monotonic() - before
    found = problem(blocked.result(), 409, "idempotency-in-flight")
    assert blocked.result().headers["retry-after"] == "1"
    assert key in found["detail"]
    assert 0.9 < waited < 10
    assert post(api, key).status_code == 202
    return min(took)


def test_what_one_brings_is_not_told_to_its_neighbours(settings: Settings, engine: Engine) -> None:
    """A row that the database refuses, in the middle of a group."""
    good = [Intake("default", [check(REGISTRY, ECHO)]) for _ in range(5)]
    bad = Intake("default", [check(REGISTRY, ECHO)._replace(priority=77)])

    async def send(writer: IntakeWriter) -> list[Any]:
        everybody = [*good[:3], bad, *good[3:]]
        with uncommitted(engine, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE"):
            tasks = [asyncio.create_task(writer.submit(intake)) for intake in everybody]
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(settings, send)
    assert [isinstance(answer, Exception) for answer in answers] == [False] * 3 + [True] + [
        False
    ] * 2
    assert [answer.jobs[0].id for answer in answers if not isinstance(answer, Exception)] == [
        intake.jobs[0].id for intake in good
    ]


def run(settings: Settings, use: Callable[[IntakeWriter], Any], **options: Any) -> Any:
    """What `use` returns of a writer of its own, which has been closed."""

    async def go() -> Any:
        hints = Hints(settings.broker_url.get_secret_value())
        writer = IntakeWriter(settings, hints, **options)
        try:
            await writer.submit(an_intake())  # while the quick lane is opened
            await asyncio.to_thread(eventually, lambda: writer.lane.is_open)
            return await use(writer)
        finally:
            await writer.close()
            hints.close()

    return asyncio.run(go())


def test_when_too_many_wait_the_next_is_turned_away(settings: Settings, engine: Engine) -> None:
    async def send(writer: IntakeWriter) -> list[Any]:
        with uncommitted(engine, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE"):
            tasks = [asyncio.create_task(writer.submit(an_intake())) for _ in range(40)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(Problem) as refused:
                done.pop().result()
            assert refused.value.type.code == "overloaded"
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(settings, send, most_waiting=10)
    assert 10 <= sum(not isinstance(answer, Exception) for answer in answers) <= 20


def an_intake() -> Intake:
    return Intake("default", [check(REGISTRY, ECHO)])


def test_what_was_submitted_before_the_end_is_answered(settings: Settings) -> None:
    async def send(writer: IntakeWriter) -> list[Any]:
        tasks = [asyncio.create_task(writer.submit(an_intake())) for _ in range(100)]
        await asyncio.sleep(0)
        await writer.close()
        with pytest.raises(Problem):
            await writer.submit(an_intake())
        return await asyncio.gather(*tasks)

    assert len(run(settings, send)) == 100


def test_who_has_gone_away_does_not_disturb(settings: Settings, engine: Engine) -> None:
    gone, stays = an_intake(), an_intake()

    async def send(writer: IntakeWriter) -> Any:
        with uncommitted(engine, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE"):
            going = asyncio.create_task(writer.submit(gone))
            staying = asyncio.create_task(writer.submit(stays))
            await asyncio.sleep(0)
            going.cancel()
            await asyncio.wait([going])
        return await staying

    assert run(settings, send).jobs[0].id == stays.jobs[0].id
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT id FROM job WHERE id = :id"), {"id": gone.jobs[0].id}
        )
        assert found.scalar_one() == gone.jobs[0].id


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_writer_that_has_died(settings: Settings) -> None:
    broken: Any = Intake("default", [SimpleNamespace(is_plain=True, args="")])  # type: ignore[list-item]

    async def send(writer: IntakeWriter) -> None:
        assert writer.is_alive
        with pytest.raises(DatabaseUnavailable):
            await writer.submit(broken)
        with pytest.raises(Problem):
            await writer.submit(an_intake())
        await asyncio.to_thread(eventually, lambda: not writer.is_alive)

    run(settings, send)


@pytest.fixture(scope="module")
def broken_line(settings: Settings, postgres: EmbeddedPostgres) -> Iterator[tuple[Api, Relay]]:
    """A server whose way to the database can be cut."""
    with relay(postgres.port) as line:
        url = settings.database_url.get_secret_value().replace(
            f":{postgres.port}/", f":{line.port}/"
        )
        with serve(settings.model_copy(update={"database_url": SecretStr(url)})) as api:
            yield api, line


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (b"\0lading_enqueue", None),  # in the quick lane: the statement is prepared
        (b"INSERT INTO job (", "first"),
        (b"INSERT INTO idempotency_key", "second"),
        (b"COMMIT", "third"),
        (b"BEGIN", "fourth"),
    ],
)
def test_a_job_whose_answer_was_lost_is_accepted_once(
    broken_line: tuple[Api, Relay], engine: Engine, words: bytes, key: str | None
) -> None:
    api, line = broken_line
    label, lost = str(uuid4()), line.lost
    open_lane(api)
    line.lose_reply_to(words)
    answer = post(api, key, labels={"of": label})
    assert line.lost == lost + 1
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert "idempotency-replayed" not in answer.headers
    assert accepted_of(engine, label) == 1
    assert api.job(answer.json()["id"]) == answer.json()
    assert accounts_balance(engine)


def open_lane(api: Api) -> None:
    """Plain submissions go through the quick lane from now on."""

    def is_open() -> bool:
        return post(api).status_code == 202 and api.parts.intake.lane.is_open

    eventually(is_open, every=0.1)


def test_a_group_whose_answer_was_lost_is_accepted_once(
    broken_line: tuple[Api, Relay], engine: Engine
) -> None:
    """What had gone out, and what waited behind it."""
    api, line = broken_line
    label, lost = str(uuid4()), line.lost
    open_lane(api)
    with ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(post, api, labels={"of": label}) for _ in range(16)]
        line.lose_reply_to(b"\0lading_enqueue")
        sent += [pool.submit(post, api, labels={"of": label}) for _ in range(16)]
        ids = {each.result().json()["id"] for each in sent}
    assert line.lost == lost + 1
    assert len(ids) == accepted_of(engine, label) == 32
    assert accounts_balance(engine)


def test_a_batch_whose_answer_was_lost_is_accepted_once(
    broken_line: tuple[Api, Relay], engine: Engine
) -> None:
    api, line = broken_line
    label = str(uuid4())
    body = {"jobs": [{"kind": "test.echo", "args": {}, "labels": {"of": label}}] * 10}
    line.lose_reply_to(b"INSERT INTO job (")
    answer = api.http.post("/v1/jobs/batch", json=body)
    assert (answer.status_code, len(answer.json()["jobs"])) == (202, 10)
    assert accepted_of(engine, label) == 10
    assert accounts_balance(engine)


def test_a_connection_that_is_ended_is_replaced(api: Api, engine: Engine) -> None:
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lading intake' AND datname = current_database()"
    )
    with ThreadPoolExecutor(8) as pool:
        with uncommitted(engine, "LOCK TABLE job IN ACCESS EXCLUSIVE MODE"):
            sent = [pool.submit(post, api) for _ in range(8)]
            eventually(lambda: is_blocked(engine), every=0.005)
            with engine.connect() as connection:
                connection.execute(text(ending))
        assert {each.result().status_code for each in sent} == {202}
    open_lane(api)  # again
    assert accounts_balance(engine)
