"""Jobs after others, and batches with callbacks: whatever ends whichever way, at any moment."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import lifecycle
from jobs.audit.snapshot import inspect
from jobs.enqueue import Accepted, Intake, NewBatch, enqueue
from jobs.errors import BatchClosed, InvalidSubmission, JobsError
from jobs.hints import Hints
from jobs.ids import uuid7
from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import Submission, check, check_all
from jobs.waiting.batches import cancel_batch, get_batch
from tests.jobs.living import PROCESS, REGISTRY, claim, fail, remove, submit, succeed
from tests.jobs.making import PROJECT, read_events, read_job
from worker.dispatcher.waiting import Waiting

S = JobState
HOUR = timedelta(hours=1)
Dispatch = Callable[[], None]


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """In autocommit, but for what the service does: its transactions are its own."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, connection.begin():
        found = inspect(connection, timedelta(seconds=30)).findings
        connection.execute(text("TRUNCATE job, batch, job_dependency, intake_total CASCADE"))
    assert found == []


@pytest.fixture
def dispatch(engine: Engine, settings: Settings) -> Iterator[Dispatch]:
    """Everything that a dispatcher does about those that wait is done."""
    hints = Hints(settings.broker_url.get_secret_value())
    service = Waiting(hints, lambda: None)

    def turns() -> None:
        with engine.connect() as connection:
            while service.turn(connection).most == 0:
                pass

    yield turns
    hints.close()


def new(engine: Engine, *jobs: Submission, batch: NewBatch | None = None) -> list[UUID]:
    answer = ask(engine, *jobs, batch=batch)
    assert isinstance(answer, Accepted), answer
    return [job.id for job in answer.jobs]


def ask(engine: Engine, *jobs: Submission, batch: NewBatch | None = None) -> Accepted | JobsError:
    intake = Intake(PROJECT, check_all(REGISTRY, jobs), batch=batch)
    with engine.begin() as connection:
        return enqueue(connection, [intake], process_id=PROCESS)[0]


def echo(*after: UUID | str, **options: Any) -> Submission:
    return Submission(kind="test.echo", args={}, after=after, **options)


def state(connection: Connection, job_id: UUID) -> JobState:
    return JobState(read_job(connection, job_id).state)


def callback() -> Any:
    return check(REGISTRY, echo())


def test_a_job_waits_until_all_its_parents_have_succeeded(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    first, second = submit(connection, 2)
    (child,) = new(engine, echo(first, second))
    assert state(connection, child) is S.WAITING
    assert read_job(connection, child).after == [first, second]
    succeed(connection, first)
    dispatch()
    assert state(connection, child) is S.WAITING
    succeed(connection, second)
    dispatch()
    events = [(event.type, event.data) for event in read_events(connection, child)]
    assert events == [("created", {"state": "waiting"}), ("queued", {})]
    (late,) = new(engine, echo(first, second))
    assert state(connection, late) is S.QUEUED
    assert connection.execute(text("SELECT count(*) FROM job WHERE is_awaited")).scalar_one() == 0


def test_parents_may_end_at_once(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    first, second = submit(connection, 2)
    (child,) = new(engine, echo(first, second))
    dispatch()
    succeed(connection, first)
    succeed(connection, second)
    dispatch()
    assert state(connection, child) is S.QUEUED


@pytest.mark.parametrize("is_told", [True, False], ids=["told before", "told after"])
@pytest.mark.parametrize("how", ["failed", "cancelled", "deleted"])
def test_what_waits_for_a_job_that_does_not_succeed_is_cancelled_with_all_that_waits_for_it(
    engine: Engine, connection: Connection, dispatch: Dispatch, how: str, is_told: bool
) -> None:
    (parent,) = submit(connection)
    child, grandchild = new(engine, echo(parent), echo("#0"))
    if is_told:
        dispatch()
    if how == "failed":
        fail(connection, parent)
    else:
        lifecycle.cancel(connection, PROJECT, parent, "asked")
    if how == "deleted":
        remove(connection, parent)
    dispatch()
    for each in (child, grandchild):
        assert state(connection, each) is S.CANCELLED
        assert read_events(connection, each)[-1].data == {"reason": "dependency"}


def test_a_parent_that_succeeded_may_be_deleted_at_once(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    (parent,) = submit(connection)
    (child,) = new(engine, echo(parent))
    dispatch()
    succeed(connection, parent)
    remove(connection, parent)
    dispatch()
    assert state(connection, child) is S.QUEUED


def test_a_time_to_come_is_waited_for_as_well(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    (parent,) = submit(connection)
    (child,) = new(engine, echo(parent, delay=HOUR))
    succeed(connection, parent)
    dispatch()
    assert state(connection, child) is S.WAITING
    connection.execute(text("UPDATE job SET run_at = now() WHERE state = 'waiting'"))
    dispatch()
    assert state(connection, child) is S.QUEUED


def test_a_retry_of_the_parent_is_waited_for_while_nobody_was_told(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    (parent,) = submit(connection)
    (child,) = new(engine, echo(parent))
    dispatch()
    fail(connection, parent)
    lifecycle.retry(connection, PROJECT, parent)
    dispatch()
    assert state(connection, child) is S.WAITING
    fail(connection, parent)
    dispatch()
    lifecycle.retry(connection, PROJECT, parent)
    succeed(connection, parent)
    dispatch()
    assert state(connection, child) is S.CANCELLED


def test_a_job_that_is_retried_waits_no_more(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    first, second = submit(connection, 2)
    (child,) = new(engine, echo(first, second))
    fail(connection, first)
    dispatch()
    lifecycle.retry(connection, PROJECT, child)
    fail(connection, second)
    dispatch()
    assert state(connection, child) is S.QUEUED


def test_a_parent_may_end_while_its_child_is_being_committed(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    (parent,) = submit(connection)
    intake = Intake(PROJECT, [check(REGISTRY, echo(parent))])
    with engine.begin() as slow:
        (answer,) = enqueue(slow, [intake], process_id=uuid4())
        succeed(connection, parent)
        dispatch()
    assert isinstance(answer, Accepted)
    dispatch()
    assert state(connection, answer.jobs[0].id) is S.QUEUED


def test_an_unknown_parent_is_refused(engine: Engine) -> None:
    refusal = ask(engine, echo(), echo("#0", uuid7()))
    assert isinstance(refusal, InvalidSubmission)
    assert [flaw.pointer for flaw in refusal.flaws] == ["#/jobs/1/after/1"]


ENDS: dict[str, tuple[str, JobState]] = {
    "all succeed": ("succeed", S.QUEUED),
    "one fails": ("fail", S.CANCELLED),
    "one is cancelled": ("cancel", S.CANCELLED),
    "one expires": ("expire", S.CANCELLED),
    "one crashes for the third time": ("crash", S.CANCELLED),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_callbacks_of_a_batch_run_once_all_have_ended(
    engine: Engine, connection: Connection, dispatch: Dispatch, how: str
) -> None:
    batch = NewBatch(uuid7(), on_complete=callback(), on_success=callback())
    assert batch.on_complete
    assert batch.on_success
    first, last = new(engine, echo(), echo(expires_in=HOUR), batch=batch)
    succeed(connection, first)
    dispatch()
    assert get_batch(connection, PROJECT, batch.id).counts == {"succeeded": 1, "queued": 1}
    for each in batch.callbacks:
        assert state(connection, each.id) is S.WAITING
    what, outcome = ENDS[how]
    {"succeed": succeed, "fail": fail, "cancel": cancel, "expire": expire, "crash": crash}[what](
        connection, last
    )
    dispatch()
    assert state(connection, batch.on_complete.id) is S.QUEUED
    assert state(connection, batch.on_success.id) is outcome
    seen = get_batch(connection, PROJECT, batch.id)
    assert (seen.state == "succeeded", seen.finished_at is not None) == (what == "succeed", True)
    if what in {"fail", "crash"}:  # what happens to a job later calls nobody a second time
        lifecycle.retry(connection, PROJECT, last)
        succeed(connection, last)
        dispatch()
        assert len(read_events(connection, batch.on_complete.id)) == 2
        assert get_batch(connection, PROJECT, batch.id).state == "succeeded"


def cancel(connection: Connection, job_id: UUID) -> None:
    lifecycle.cancel(connection, PROJECT, job_id, "asked")


def expire(connection: Connection, job_id: UUID) -> None:
    past = text("UPDATE job SET expires_at = now() - interval '1 s' WHERE id = :id")
    connection.execute(past, {"id": job_id})
    lifecycle.expire_due(connection, 1)


def crash(connection: Connection, job_id: UUID) -> None:
    for _ in range(3):
        attempt = claim(connection, job_id)
        lifecycle.crash(connection, job_id, attempt=attempt, detail="signal 9")


def test_the_first_failure_ends_a_batch_that_wants_it(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    batch = NewBatch(uuid7(), failure_policy="fail_fast", on_complete=callback())
    assert batch.on_complete
    failing, running, idle, waiting = new(engine, echo(), echo(), echo(), echo("#2"), batch=batch)
    attempt = claim(connection, running)
    fail(connection, failing)
    dispatch()
    assert [state(connection, each) for each in (idle, waiting)] == [S.CANCELLED] * 2
    assert read_job(connection, running).cancel_requested
    assert state(connection, batch.on_complete.id) is S.WAITING
    lifecycle.cancel_running(connection, running, attempt=attempt, reason="asked")
    dispatch()
    assert state(connection, batch.on_complete.id) is S.QUEUED
    assert get_batch(connection, PROJECT, batch.id).state == "failed"


def test_an_open_batch_takes_more_and_does_not_end(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    batch = NewBatch(uuid7(), is_open=True, on_success=callback())
    assert batch.on_success
    (first,) = new(engine, echo(), batch=batch)
    succeed(connection, first)
    dispatch()
    assert state(connection, batch.on_success.id) is S.WAITING
    last = NewBatch(batch.id, is_new=False)
    (second,) = new(engine, echo(), batch=last)
    assert isinstance(ask(engine, echo(), batch=last), BatchClosed)
    succeed(connection, second)
    dispatch()
    assert state(connection, batch.on_success.id) is S.QUEUED
    assert get_batch(connection, PROJECT, batch.id).jobs == 2


def test_a_whole_batch_is_cancelled(
    engine: Engine, connection: Connection, dispatch: Dispatch
) -> None:
    batch = NewBatch(uuid7(), on_complete=callback())
    assert batch.on_complete
    jobs = new(engine, *[echo()] * 3, batch=batch)
    assert cancel_batch(connection, PROJECT, batch.id, "enough")
    assert not cancel_batch(connection, PROJECT, batch.id, "enough")
    dispatch()
    assert {state(connection, each) for each in jobs} == {S.CANCELLED}
    assert get_batch(connection, PROJECT, batch.id).state == "cancelled"
    assert state(connection, batch.on_complete.id) is S.QUEUED
