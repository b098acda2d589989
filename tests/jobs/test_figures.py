"""What is counted of all jobs: each event once, whoever counts."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import lifecycle
from jobs.attempts import Cause, Error
from jobs.enqueue import Intake, enqueue
from jobs.figures import counting
from jobs.figures.counting import BUCKETS, OTHER, Measure, count_ended, read_figures
from jobs.registry import load_registry
from jobs.submissions import Submission, check

REGISTRY = load_registry(["tests.kinds_for_tests"])
PROJECT, LEASE = "default", timedelta(seconds=30)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _afresh(engine: Engine) -> None:
    """Nothing was counted before, and other modules' jobs never will be."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM bus_position WHERE name = 'figures'"))
        connection.execute(text("DELETE FROM job_figure"))
    count(engine)


def count(engine: Engine, limit: int = 1000) -> bool | None:
    with engine.begin() as connection:
        return count_ended(connection, limit)


def counted(engine: Engine, kind: str) -> dict[tuple[Measure, str], int]:
    with engine.connect() as connection:
        return {(f.measure, f.label): f.times for f in read_figures(connection) if f.kind == kind}


def submit(connection: Connection) -> UUID:
    job = check(REGISTRY, Submission(kind="test.echo", args={"value": 1}))
    enqueue(connection, [Intake(PROJECT, [job])], process_id=uuid4())
    return job.id


def start(connection: Connection, job_id: UUID, attempt: int = 1) -> None:
    lifecycle.start(connection, job_id, attempt=attempt, worker=uuid4(), lease=LEASE)


def run(engine: Engine) -> UUID:
    with engine.begin() as connection:
        job_id = submit(connection)
        start(connection, job_id)
        lifecycle.succeed(connection, job_id, attempt=1, result=None)
    return job_id


def test_each_end_run_and_wait_is_counted_once(engine: Engine) -> None:
    error = Error(Cause.EXCEPTION, "ValueError", "no")
    run(engine)
    with engine.begin() as connection:
        twice, never = submit(connection), submit(connection)
        start(connection, twice)
        lifecycle.retry_later(connection, twice, attempt=1, error=error, delay=timedelta())
        lifecycle.run_now(connection, PROJECT, twice)
        start(connection, twice, 2)
        lifecycle.fail(connection, twice, attempt=2, error=error)
        lifecycle.cancel(connection, PROJECT, never, "not wanted")
    for _ in range(2):
        count(engine)
        found = counted(engine, "test.echo")
        ends = {label: times for (measure, label), times in found.items() if measure == "finished"}
        assert ends == {"succeeded": 1, "failed": 1, "cancelled": 1}
        for measure in (Measure.RUN, Measure.WAIT):
            assert sum(times for (each, _), times in found.items() if each is measure) == 3
    with engine.begin() as connection:
        lifecycle.retry(connection, PROJECT, twice)
        start(connection, twice, 3)
        lifecycle.succeed(connection, twice, attempt=3, result=None)
    count(engine)
    assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] == 2


def test_times_go_into_their_buckets(engine: Engine) -> None:
    with engine.begin() as connection:
        job_id = submit(connection)
        start(connection, job_id)
        moved = lifecycle.succeed(connection, job_id, attempt=1, result=None)
        binds = {"id": job_id, "run": MINUTE * 2, "wait": HOUR * 2, "at": moved.at}
        for statement in (
            "UPDATE job_attempt SET started_at = :at - CAST(:run AS interval) WHERE job_id = :id",
            "UPDATE job_event SET at = at - CAST(:wait AS interval) WHERE job_id = :id AND seq = 1",
        ):
            connection.execute(text(statement), binds)
    count(engine)
    found = counted(engine, "test.echo")
    assert found[Measure.RUN, str(BUCKETS.index(300.0))] == 1
    assert found[Measure.WAIT, str(len(BUCKETS))] == 1
    with engine.connect() as connection:
        run_ = next(f for f in read_figures(connection) if f.measure is Measure.RUN)
    assert run_.seconds == pytest.approx(120)


def test_much_is_counted_in_pieces_of_some_events(engine: Engine) -> None:
    for _ in range(5):
        run(engine)
    assert count(engine, limit=4) is False
    assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] < 5
    while count(engine, limit=4) is False:
        pass
    assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] == 5


def test_one_process_counts_at_a_time_and_one_that_dies_has_counted_nothing(engine: Engine) -> None:
    run(engine)
    with engine.connect() as first, first.begin() as dies:
        assert count_ended(first, 1000) is True
        assert count(engine) is None
        dies.rollback()
    assert not counted(engine, "test.echo")
    assert count(engine) is True
    assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] == 1


def test_a_transaction_that_stays_open_is_counted_when_it_ends(engine: Engine) -> None:
    with engine.begin() as late:
        submit(late)
        run(engine)
        count(engine)
        assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] == 1
        job_id = submit(late)
        start(late, job_id)
        lifecycle.succeed(late, job_id, attempt=1, result=None)
    count(engine)
    assert counted(engine, "test.echo")[Measure.FINISHED, "succeeded"] == 2


def test_so_many_kinds_are_told_apart(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_KINDS", 0)
    run(engine)
    count(engine)
    assert not counted(engine, "test.echo")
    assert counted(engine, OTHER)[Measure.FINISHED, "succeeded"] == 1
