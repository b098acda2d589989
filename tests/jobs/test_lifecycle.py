"""Generated from the table of moves: an allowed one writes one event, others change nothing."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, exc, func, select, update
from sqlmodel import col

from jobs import lifecycle
from jobs.attempts import Cause, Error
from jobs.errors import JobNotFound, JobsError, LeaseLost
from jobs.ids import uuid7
from jobs.models import Job, JobAttempt, JobStep
from jobs.states import FINAL, JobState, Move
from tests.jobs.making import LEASE, PROJECT, WORKER, make_job, read, read_events, read_job

ERROR = Error(Cause.EXCEPTION, "ValueError", "no")
HOUR = timedelta(hours=1)
CALLS: dict[Move, Callable[[Connection, UUID], Any]] = {
    Move.RUN_NOW: lambda c, job: lifecycle.run_now(c, PROJECT, job),
    Move.START: partial(lifecycle.start, attempt=2, worker=WORKER, lease=LEASE),
    Move.PROGRESS: partial(lifecycle.record_progress, attempt=1, fraction=0.5, message="half"),
    Move.LOG: partial(lifecycle.record_log, attempt=1, lines=[{"message": "one"}]),
    Move.STEP: partial(lifecycle.record_step, attempt=1, name="one", result=[1]),
    Move.SUCCEED: partial(lifecycle.succeed, attempt=1, result={"n": 1}),
    Move.RETRY_LATER: partial(lifecycle.retry_later, attempt=1, error=ERROR, delay=HOUR),
    Move.FAIL: partial(lifecycle.fail, attempt=1, error=ERROR),
    Move.CRASH: partial(lifecycle.crash, attempt=1, detail="signal 9"),
    Move.INTERRUPT: partial(lifecycle.interrupt, attempt=1, reason="deploy"),
    Move.CANCEL_RUNNING: partial(lifecycle.cancel_running, attempt=1, reason="test"),
    Move.CANCEL: lambda c, job: lifecycle.cancel(c, PROJECT, job, "test"),
    Move.RETRY: lambda c, job: lifecycle.retry(c, PROJECT, job),
}
ALLOWED = [(move, state) for move in CALLS for state in move.sources]
ASKS_RUNNING = {(Move.CANCEL, JobState.RUNNING), (Move.CANCEL, JobState.CANCELLED)}
REFUSED = [
    (move, state)
    for move in CALLS
    for state in JobState
    if state not in move.sources and (move, state) not in ASKS_RUNNING
]
FENCED = [move for move in CALLS if move.is_report or move is Move.START]


@pytest.mark.parametrize(("move", "state"), ALLOWED)
def test_an_allowed_move_logs_once(connection: Connection, move: Move, state: JobState) -> None:
    job_id = make_job(connection, state)
    moved = CALLS[move](connection, job_id)
    job, events = read(connection, job_id)
    assert (job.state, job.attempt, job.seq) == (move.target, moved.attempt, 2)
    assert [(event.seq, event.type) for event in events] == [(1, "created"), (2, move.event)]
    assert (moved.type, moved.at, moved.data) == (events[1].type, events[1].at, events[1].data)


@pytest.mark.parametrize(("move", "state"), REFUSED)
def test_any_other_changes_nothing(connection: Connection, move: Move, state: JobState) -> None:
    before = read(connection, job_id := make_job(connection, state))
    with pytest.raises(JobsError):
        CALLS[move](connection, job_id)
    assert read(connection, job_id) == before


@pytest.mark.parametrize("move", FENCED)
@pytest.mark.parametrize("held", [0, 2])
def test_a_late_or_early_attempt_is_refused(connection: Connection, move: Move, held: int) -> None:
    job_id = make_job(connection, move.sources[0], attempt=held)
    with pytest.raises(LeaseLost):
        CALLS[move](connection, job_id)


@pytest.mark.parametrize("move", [move for move in CALLS if move.ends_attempt])
def test_an_ended_attempt_has_its_row(connection: Connection, move: Move) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    CALLS[move](connection, job_id)
    attempt = connection.execute(select(JobAttempt.__table__)).one()  # type: ignore[attr-defined]
    assert (attempt.job_id, attempt.attempt, attempt.worker) == (job_id, 1, WORKER)
    assert attempt.started_at <= attempt.finished_at
    assert read_job(connection, job_id).lease_until is None


def test_one_of_eight_racing_claims_wins(engine: Engine) -> None:
    together = Barrier(8, timeout=30)  # seconds
    with engine.begin() as connection:
        job_id = make_job(connection)

    def claim(_: int) -> None:
        with engine.begin() as connection:
            together.wait()
            CALLS[Move.START](connection, job_id)

    with ThreadPoolExecutor(8) as pool:
        claims = [pool.submit(claim, number) for number in range(8)]
    outcomes = [type(claim.exception()) for claim in claims]
    assert (outcomes.count(type(None)), outcomes.count(LeaseLost)) == (1, 7)


def test_a_claim_brings_what_the_handler_needs(connection: Connection) -> None:
    columns: dict[str, Any] = {"args": {"value": 1}, "labels": {"a": "b"}, "failures": 1}
    job_id = make_job(connection, attempt=1, timeout_seconds=1.5, **columns)
    claim = lifecycle.start(connection, job_id, attempt=2, worker=WORKER, lease=LEASE)
    assert json.loads(claim.args) == {"value": 1}
    assert (claim.kind, claim.labels, claim.timeout_seconds) == ("test.echo", {"a": "b"}, 1.5)
    assert (claim.attempt, claim.failures, claim.max_attempts) == (2, 1, 5)
    job = read_job(connection, job_id)
    assert (job.worker, job.lease_until - job.started_at > timedelta(seconds=29)) == (WORKER, True)


def test_a_running_job_is_asked_to_end_once(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    asked = lifecycle.cancel(connection, PROJECT, job_id, "enough")
    assert asked is not None
    assert (asked.type, asked.state) == ("cancel_requested", JobState.RUNNING)
    assert lifecycle.cancel(connection, PROJECT, job_id, "again") is None
    assert len(read_events(connection, job_id)) == 2


@pytest.mark.parametrize("move", [Move.RETRY_LATER, Move.FAIL, Move.CRASH, Move.INTERRUPT])
def test_after_a_cancel_request_any_end_but_success_is_cancelled(
    connection: Connection, move: Move
) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    lifecycle.cancel(connection, PROJECT, job_id, "enough")
    moved = CALLS[move](connection, job_id)
    assert (moved.state, moved.type, moved.data) == (
        JobState.CANCELLED,
        "cancelled",
        {"reason": "enough"},
    )


def test_success_beats_a_cancel_request(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    lifecycle.cancel(connection, PROJECT, job_id, "enough")
    assert CALLS[Move.SUCCEED](connection, job_id).state is JobState.SUCCEEDED


def test_the_third_crash_fails_the_job(connection: Connection) -> None:
    job_id = make_job(connection, attempt=0)
    ends = []
    for attempt in (1, 2, 3):
        lifecycle.start(connection, job_id, attempt=attempt, worker=WORKER, lease=LEASE)
        ends.append(lifecycle.crash(connection, job_id, attempt=attempt, detail="signal 9"))
    assert [end.type for end in ends] == ["crashed", "crashed", "failed"]
    assert ends[0].data == {"cause": "crashed", "detail": "signal 9"}
    job = read_job(connection, job_id)
    assert (job.state, job.crashes, job.failures) == (JobState.FAILED, 3, 0)
    assert job.error["cause"] == "crashed"
    with pytest.raises(JobsError):
        lifecycle.cancel(connection, PROJECT, job_id, "too late")


def test_a_manual_retry_zeroes_the_budgets_and_never_the_attempt(connection: Connection) -> None:
    spent = {"failures": 2, "crashes": 1, "error": {"cause": "fail"}}
    job_id = make_job(connection, JobState.FAILED, attempt=3, **spent)
    lifecycle.retry(connection, PROJECT, job_id)
    job = read_job(connection, job_id)
    assert (job.failures, job.crashes, job.attempt, job.error) == (0, 0, 3, None)
    assert (job.finished_at, job.cancel_requested) == (None, False)


def test_retrying_tells_when_the_next_attempt_comes(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    moved = CALLS[Move.RETRY_LATER](connection, job_id)
    job = read_job(connection, job_id)
    assert moved.data["error"] == {"cause": "exception", "type": "ValueError", "message": "no"}
    assert timedelta(minutes=59) < job.run_at - moved.at <= HOUR
    assert (job.failures, job.error) == (1, moved.data["error"])


def test_a_step_is_stored_with_its_event(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    moved = CALLS[Move.STEP](connection, job_id)
    step = connection.execute(select(JobStep.__table__)).one()  # type: ignore[attr-defined]
    assert (moved.data, step.name, step.result) == ({"name": "one"}, "one", [1])


def test_due_jobs_are_released_and_others_wait(connection: Connection) -> None:
    past = func.clock_timestamp() - HOUR
    due = {make_job(connection, state, run_at=past) for state in Move.RELEASE.sources[1:]}
    later = make_job(connection, JobState.SCHEDULED)
    assert {moved.id for moved in lifecycle.release_due(connection, 10)} == due
    assert read_job(connection, later).state is JobState.SCHEDULED
    assert lifecycle.release_due(connection, 10) == []


def test_a_sweep_takes_no_more_than_its_limit(connection: Connection) -> None:
    for _ in range(5):
        make_job(connection, JobState.SCHEDULED, run_at=func.clock_timestamp() - HOUR)
    assert [len(lifecycle.release_due(connection, 2)) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("state", Move.EXPIRE.sources)
def test_a_job_not_started_in_time_expires(connection: Connection, state: JobState) -> None:
    past = func.clock_timestamp() - HOUR
    expired = make_job(connection, state, attempt=0, expires_at=past)
    make_job(connection, state, attempt=1, expires_at=past)  # it has started before
    make_job(connection, state, attempt=0, expires_at=func.clock_timestamp() + HOUR)
    (moved,) = lifecycle.expire_due(connection, 10)
    assert (moved.id, moved.state, moved.data) == (
        expired,
        JobState.CANCELLED,
        {"reason": "expired"},
    )


def test_an_expired_job_cannot_start(connection: Connection) -> None:
    past = func.clock_timestamp() - HOUR
    job_id = make_job(connection, attempt=0, expires_at=past)
    with pytest.raises(LeaseLost):
        lifecycle.start(connection, job_id, attempt=1, worker=WORKER, lease=LEASE)


@pytest.fixture
def short() -> timedelta:
    """A lease so short that the test's server has been up for longer."""
    return timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("columns", "state", "event"),
    [
        ({}, JobState.QUEUED, "crashed"),
        ({"crashes": 2}, JobState.FAILED, "failed"),
        ({"cancel_requested": True}, JobState.CANCELLED, "cancelled"),
    ],
)
def test_a_silent_holder_loses_its_job(
    connection: Connection, short: timedelta, columns: dict[str, Any], state: JobState, event: str
) -> None:
    gone = {"lease_until": func.clock_timestamp() - HOUR, **columns}
    lost = make_job(connection, JobState.RUNNING, attempt=3, **gone)
    make_job(connection, JobState.RUNNING)  # its lease holds
    (moved,) = lifecycle.rescue(connection, 10, short)
    assert (moved.id, moved.state, moved.type) == (lost, state, event)
    with pytest.raises(LeaseLost):
        lifecycle.succeed(connection, lost, attempt=3, result=None)


def test_nobody_is_rescued_within_a_lease_of_the_servers_start(connection: Connection) -> None:
    make_job(connection, JobState.RUNNING, lease_until=func.clock_timestamp() - HOUR)
    assert lifecycle.rescue(connection, 10, timedelta(days=1000)) == []


def test_an_unknown_job_is_not_found(connection: Connection) -> None:
    for ask in (lifecycle.retry, lifecycle.run_now):
        with pytest.raises(JobNotFound):
            ask(connection, PROJECT, uuid7())


def test_another_projects_job_is_not_found(connection: Connection) -> None:
    job_id = make_job(connection)
    with pytest.raises(JobNotFound):
        lifecycle.cancel(connection, "other", job_id, "no")


_LET_GO = {"lease_until": None}
_OVER = {**_LET_GO, "finished_at": func.now()}


@pytest.mark.parametrize(
    ("columns", "law"),
    [
        ({"finished_at": func.now()}, "finished_when_final"),
        ({"state": JobState.SUCCEEDED, "finished_at": func.now()}, "leased_when_running"),
        ({"worker": None}, "held_when_running"),
        ({**_LET_GO, "state": JobState.QUEUED, "queued_at": None}, "queued_since_when_queued"),
        ({**_LET_GO, "state": JobState.RETRYING, "run_at": None}, "timed_when_waiting"),
        ({"result": 1}, "result_of_success_only"),
        ({**_OVER, "state": JobState.FAILED, "error": None}, "error_when_failed"),
        ({**_OVER, "state": JobState.SUCCEEDED, "error": {}}, "no_error_when_succeeded"),
        ({**_LET_GO, "state": JobState.QUEUED, "cancel_requested": True}, "cancel_request_ends_it"),
        ({"rung_at": func.now()}, "rung_while_queued"),
        ({"failures": 6, "attempt": 9}, "failures_within_budget"),
        ({"crashes": 4, "attempt": 9}, "crashes_within_budget"),
        ({"crashes": 2}, "attempt_counts_every_start"),
        ({"seq": 0}, "created_is_the_first_event"),
        ({"priority": 10}, "priority_has_one_digit"),
        ({"concurrency_limit": 1, "concurrency_key": None}, "limited_by_key"),
        ({"unique_key": "k"}, "unique_within_a_scope"),
    ],
)
def test_the_database_keeps_the_law_too(
    connection: Connection, columns: dict[str, Any], law: str
) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    with pytest.raises(exc.IntegrityError, match=law), connection.begin_nested():
        connection.execute(update(Job).where(col(Job.id) == job_id).values(**columns))


def test_every_final_state_is_a_target() -> None:
    assert {move.target for move in Move} >= FINAL
    assert len(Move) == len({(move.sources, move.target, move.because) for move in Move})
