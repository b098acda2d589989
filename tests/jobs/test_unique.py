"""Unique keys: PostgreSQL decides who has one, and the policy what becomes of the other."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import lifecycle
from jobs.audit.snapshot import inspect
from jobs.enqueue import Accepted, Intake, enqueue
from jobs.errors import InvalidSubmission, JobsError, UniqueConflict
from jobs.queries import get_submission
from jobs.states import JobState
from jobs.submissions import Submission, Unique, check, check_all, fingerprint
from tests.jobs.living import PROCESS, REGISTRY, claim, fail, succeed
from tests.jobs.making import PROJECT, read_events, read_job

S = JobState


def ask(connection: Connection, unique: Unique, **options: Any) -> Accepted | JobsError:
    asked = Submission(kind="test.echo", args={}, unique=unique, **options)
    intake = Intake(PROJECT, [check(REGISTRY, asked)])
    (answer,) = enqueue(connection, [intake], process_id=PROCESS)
    return answer


def accept(connection: Connection, *unique: Any, **options: Any) -> UUID:
    answer = ask(connection, Unique(*unique), **options)
    assert isinstance(answer, Accepted), answer
    return answer.jobs[0].id


def refuse(connection: Connection, *unique: Any) -> UUID | None:
    answer = ask(connection, Unique(*unique))
    assert isinstance(answer, UniqueConflict), answer
    return answer.job_id


def test_a_key_is_held_until_its_job_has_ended(connection: Connection) -> None:
    first = accept(connection, "a")
    assert refuse(connection, "a") == first
    attempt = claim(connection, first)
    assert refuse(connection, "a") == first
    lifecycle.interrupt(connection, first, attempt=attempt, reason="deploy")
    assert refuse(connection, "a") == first
    succeed(connection, first)
    second = accept(connection, "a")
    assert second != first
    assert accept(connection, "b")
    assert audit_of(connection) == []


def test_within_the_scope_queued_a_key_is_held_until_the_first_start(
    connection: Connection,
) -> None:
    first = accept(connection, "a", "queued", delay=timedelta(hours=1))
    assert refuse(connection, "a", "queued") == first
    lifecycle.run_now(connection, PROJECT, first)
    assert refuse(connection, "a", "queued") == first
    attempt = claim(connection, first)
    second = accept(connection, "a", "queued")
    # The first one comes back, beside the second: that must not be in the way of any move.
    lifecycle.interrupt(connection, first, attempt=attempt, reason="deploy")
    attempt = claim(connection, first)
    lifecycle.crash(connection, first, attempt=attempt, detail="signal 9")
    assert read_job(connection, first).state == S.QUEUED
    assert refuse(connection, "a", "queued") == second
    assert refuse(connection, "a", "active") == first


def test_a_project_has_keys_of_its_own(connection: Connection) -> None:
    accept(connection, "a")
    asked = Submission(kind="test.echo", args={}, unique=Unique("a"))
    (answer,) = enqueue(connection, [Intake("other", [check(REGISTRY, asked)])], process_id=PROCESS)
    assert isinstance(answer, Accepted)


def test_the_job_that_has_the_key_is_returned(connection: Connection) -> None:
    first = accept(connection, "a")
    answer = ask(connection, Unique("a", "active", "return"))
    assert isinstance(answer, Accepted)
    assert ([job.id for job in answer.jobs], answer.found) == ([first], frozenset({first}))
    assert answer.made == []


def test_a_job_that_does_not_run_is_replaced(connection: Connection) -> None:
    first = accept(connection, "a")
    second = accept(connection, "a", "active", "replace")
    job, events = read_job(connection, first), read_events(connection, first)
    assert (job.state, events[-1].data) == (S.CANCELLED, {"reason": "replaced"})
    claim(connection, second)
    assert refuse(connection, "a", "active", "replace") == second


def test_a_finished_job_is_not_retried_beside_another_with_its_key(
    connection: Connection,
) -> None:
    first = accept(connection, "a")
    fail(connection, first)
    second = accept(connection, "a")
    with pytest.raises(UniqueConflict) as caught:
        lifecycle.retry(connection, PROJECT, first)
    assert (caught.value.job_id, caught.value.key) == (second, "a")
    again = get_submission(connection, PROJECT, first)
    assert again.unique == Unique("a")
    succeed(connection, second)
    assert lifecycle.retry(connection, PROJECT, first).state is S.QUEUED
    assert refuse(connection, "a") == first


def test_a_refused_batch_leaves_nothing_behind_and_its_idempotency_key_is_free(
    connection: Connection,
) -> None:
    first = accept(connection, "b")
    before = connection.execute(text("SELECT count(*) FROM job")).scalar_one()
    asked = [Submission(kind="test.echo", args={}, unique=Unique(key)) for key in "ab"]

    def batch() -> Accepted | JobsError:
        jobs, print_ = check_all(REGISTRY, asked), fingerprint(asked, batch=True)
        intake = Intake(PROJECT, jobs, "key", print_)
        return enqueue(connection, [intake], process_id=PROCESS)[0]

    refusal = batch()
    assert isinstance(refusal, UniqueConflict)
    assert refusal.job_id == first
    assert connection.execute(text("SELECT count(*) FROM job")).scalar_one() == before
    succeed(connection, first)
    accepted = batch()
    assert isinstance(accepted, Accepted)
    assert not accepted.replayed
    replay = batch()
    assert isinstance(replay, Accepted)
    assert replay.replayed
    assert audit_of(connection) == []


def test_a_batch_names_no_key_twice() -> None:
    asked = [Submission(kind="test.echo", args={}, unique=Unique("a"))] * 2
    with pytest.raises(InvalidSubmission) as caught:
        check_all(REGISTRY, asked)
    assert caught.value.flaws[0].pointer == "#/jobs/1/unique/key"


def test_of_many_at_a_time_one_wins(engine: Engine) -> None:
    barrier = threading.Barrier(8)
    answers: list[Accepted | JobsError] = []

    def submit() -> None:
        with engine.begin() as connection:
            barrier.wait()
            answers.append(ask(connection, Unique("raced")))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert sum(isinstance(answer, Accepted) for answer in answers) == 1


def audit_of(connection: Connection) -> list[str]:

    return [finding.check for finding in inspect(connection, timedelta(seconds=30)).findings]
