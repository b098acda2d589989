import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, delete, exc, select, text
from sqlmodel import col

from jobs.enqueue import Accepted, Intake, enqueue
from jobs.errors import JobDeleted, JobsError, KeyReused
from jobs.models import IdempotencyKey, IntakeTotal, Job
from jobs.registry import Registry, load_registry
from jobs.states import JobState
from jobs.submissions import Submission, check, fingerprint
from tests.eventually import eventually
from tests.jobs.making import PROJECT, read_events, read_job

PROCESS = uuid4()


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def intake(registry: Registry, *values: Any, key: str | None = None, **options: Any) -> Intake:
    """One job of test.echo for each value."""
    asked = [Submission(kind="test.echo", args={"value": v}, **options) for v in values]
    new = [check(registry, submission) for submission in asked]
    return Intake(PROJECT, new, key, fingerprint(asked, batch=len(asked) > 1))


def accept(connection: Connection, *intakes: Intake) -> list[Accepted]:
    results = enqueue(connection, intakes, process_id=PROCESS)
    assert all(isinstance(result, Accepted) for result in results), results
    return [result for result in results if isinstance(result, Accepted)]


def refuse(connection: Connection, asked: Intake) -> JobsError:
    (result,) = enqueue(connection, [asked], process_id=PROCESS)
    assert isinstance(result, JobsError)
    return result


def test_an_accepted_job_is_queued_with_its_first_event(
    connection: Connection, registry: Registry
) -> None:
    asked = intake(registry, 1, labels={"team": "a"}, priority=9)
    ((view,),) = [accepted.jobs for accepted in accept(connection, asked)]
    assert (view.state, view.seq, view.queue, view.priority) == (JobState.QUEUED, 1, "default", 9)
    assert (view.args, view.labels, view.attempt) == ({"value": 1}, {"team": "a"}, 0)
    (event,) = read_events(connection, view.id)
    assert (event.seq, event.type, event.data) == (1, "created", {"state": "queued"})
    assert (event.at, view.queued_at) == (view.created_at, view.created_at)


def test_jobs_keep_the_order_of_their_request(connection: Connection, registry: Registry) -> None:
    first, second = accept(connection, intake(registry, *range(50)), intake(registry, "x"))
    assert [view.args for view in first.jobs] == [{"value": n} for n in range(50)]
    assert [view.args for view in second.jobs] == [{"value": "x"}]


def test_a_delayed_job_is_scheduled_by_the_databases_clock(
    connection: Connection, registry: Registry
) -> None:
    asked = intake(registry, 1, delay=timedelta(hours=1), expires_in=timedelta(minutes=1))
    (view,) = accept(connection, asked)[0].jobs
    assert (view.state, view.queued_at) == (JobState.SCHEDULED, None)
    assert view.run_at == view.created_at + timedelta(hours=1)
    row = read_job(connection, view.id)
    assert row.expires_at == view.run_at + timedelta(minutes=1)
    assert read_events(connection, view.id)[0].data == {"state": "scheduled"}


def test_a_time_that_has_passed_means_now(connection: Connection, registry: Registry) -> None:
    asked = intake(registry, 1, run_at=datetime(2020, 1, 1, tzinfo=UTC))
    (view,) = accept(connection, asked)[0].jobs
    assert view.state is JobState.QUEUED


def test_the_same_key_and_body_make_one_job(connection: Connection, registry: Registry) -> None:
    (first,) = accept(connection, intake(registry, 1, key="k"))
    (again,) = accept(connection, intake(registry, 1, key="k"))
    assert (first.replayed, again.replayed) == (False, True)
    assert [view.id for view in first.jobs] == [view.id for view in again.jobs]


def test_the_same_key_for_another_body_is_refused(
    connection: Connection, registry: Registry
) -> None:
    accept(connection, intake(registry, 1, key="k"))
    assert isinstance(refuse(connection, intake(registry, 2, key="k")), KeyReused)


def test_a_refusal_leaves_its_neighbours_alone(connection: Connection, registry: Registry) -> None:
    accept(connection, intake(registry, 1, key="k"))
    asked = [intake(registry, 7), intake(registry, 2, key="k"), intake(registry, 8, key="new")]
    before, refused, after = enqueue(connection, asked, process_id=PROCESS)
    assert isinstance(refused, KeyReused)
    assert isinstance(before, Accepted)
    assert isinstance(after, Accepted)


def test_a_deleted_jobs_key_says_so(connection: Connection, registry: Registry) -> None:
    (first,) = accept(connection, intake(registry, 1, key="k"))
    connection.execute(delete(Job).where(col(Job.id) == first.jobs[0].id))
    assert isinstance(refuse(connection, intake(registry, 1, key="k")), JobDeleted)


def test_a_commit_tried_again_is_no_replay(connection: Connection, registry: Registry) -> None:
    asked = intake(registry, 1, key="k")
    accept(connection, asked)
    assert not accept(connection, asked)[0].replayed


def test_the_same_ids_cannot_be_accepted_twice(connection: Connection, registry: Registry) -> None:
    asked = intake(registry, 1)
    accept(connection, asked)
    with pytest.raises(exc.IntegrityError, match="job_pkey"), connection.begin_nested():
        enqueue(connection, [asked], process_id=PROCESS)


def test_what_is_accepted_is_counted(connection: Connection, registry: Registry) -> None:
    process_id = uuid4()
    enqueue(connection, [intake(registry, 1, 2)], process_id=process_id)
    enqueue(connection, [intake(registry, 3)], process_id=process_id)
    counted = select(col(IntakeTotal.accepted)).where(col(IntakeTotal.process_id) == process_id)
    assert connection.scalar(counted) == 3


def test_a_secret_is_stored_and_shown_redacted(connection: Connection, registry: Registry) -> None:
    args = {"user": "ann", "password": "hush"}
    new = check(registry, Submission(kind="test.secret", args=args))
    (view,) = accept(connection, Intake(PROJECT, [new]))[0].jobs
    assert view.args == {"user": "ann", "password": "**********"}
    assert read_job(connection, view.id).args == args


_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.fixture
def committed(engine: Engine) -> Iterator[None]:
    """For a test that commits: the table is as empty as the next one expects."""
    yield
    with engine.begin() as connection:
        connection.execute(delete(IdempotencyKey))


def test_a_racing_twin_waits_and_replays(
    engine: Engine, registry: Registry, committed: None
) -> None:
    asked, answers = intake(registry, 1, key="race"), []

    def twin() -> None:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))  # however slow we are here
            answers.extend(accept(connection, intake(registry, 1, key="race")))

    with engine.begin() as connection:
        accept(connection, asked)
        thread = threading.Thread(target=twin)
        thread.start()
        with engine.connect() as other:
            eventually(lambda: other.scalar(_WAITING))
    thread.join(30)
    assert [view.id for answer in answers for view in answer.jobs] == [asked.jobs[0].id]
    assert [answer.replayed for answer in answers] == [True]


def test_a_blocked_key_gives_up_after_the_lock_timeout(
    engine: Engine, registry: Registry, committed: None
) -> None:
    with engine.begin() as holder:
        accept(holder, intake(registry, 1, key="held"))
        with pytest.raises(exc.OperationalError, match="lock timeout"), engine.begin() as twin:
            accept(twin, intake(registry, 1, key="held"))
