"""What is answered of new jobs without asking the database again is what stands in their rows."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlmodel import col

from jobs.database import autocommit
from jobs.enqueue.intake import Intake
from jobs.enqueue.plain import insert_plain
from jobs.ids import uuid7
from jobs.models import Job
from jobs.registry import Registry, load_registry
from jobs.states import JobState
from jobs.submissions import Concurrency, NewJob, Submission, check
from jobs.views import JobView, job_columns
from tests.jobs.making import PROJECT

LATER = datetime.now(UTC) + timedelta(hours=1, microseconds=7)
TEXTS = ['"', "\\", '{a,"b",NULL}', "NULL", "", " ", "Größe\n\t'", "{}", "\\\\\"'"]
#: Each with a column that others have not, so that a group's arrays have gaps.
ASKED = [
    Submission(
        kind="test.echo", args={"value": TEXTS}, labels={text or "-": text for text in TEXTS}
    ),
    Submission(kind="test.echo", args={"value": [-0.5, 2**70, None, True, 1e-7]}, run_at=LATER),
    Submission(kind="test.echo", args={}, delay=timedelta(seconds=0.25), priority=0),
    Submission(kind="test.echo", args={}, run_at=datetime(1999, 1, 1, tzinfo=UTC)),
    Submission(kind="test.echo", args={}, timeout=timedelta(seconds=1.5), max_attempts=7),
    Submission(kind="test.echo", args={}, expires_in=timedelta(days=1)),
    Submission(kind="test.echo", args={}, concurrency=Concurrency('"NULL"\\', 3)),
    Submission(kind="test.echo", args={}, concurrency=Concurrency("{")),
    Submission(kind="test.secret", args={"user": "me", "password": "hush"}),
    Submission(kind="test.echo", args={}, rerun_of=uuid4()),
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def rows_of(connection: Connection, jobs: list[NewJob]) -> dict[UUID, JobView]:
    ids = [job.id for job in jobs]
    statement = sa.select(*job_columns()).where(col(Job.id).in_(ids))
    return {row[0]: JobView._make(row) for row in connection.execute(statement)}


def insert(connection: Connection, jobs: list[NewJob]) -> dict[UUID, JobView]:
    intakes = (
        [Intake(PROJECT, jobs[:1]), Intake(PROJECT, jobs[1:])]
        if jobs[1:]
        else [Intake(PROJECT, jobs)]
    )
    accepted = insert_plain(connection, intakes, uuid7())
    assert [len(each.jobs) for each in accepted] == [len(each.jobs) for each in intakes]
    return {job.id: job for each in accepted for job in each.jobs}


def test_a_group_in_one_statement_is_answered_as_it_stands(
    engine: Engine, registry: Registry
) -> None:
    with autocommit(engine).connect() as connection:
        for _ in range(3):  # the second is prepared
            jobs = [check(registry, asked) for asked in ASKED]
            answered = insert(connection, jobs)
            assert answered == rows_of(connection, jobs)
    states = [answered[job.id].state for job in jobs]
    assert states[:4] == [
        JobState.QUEUED,
        JobState.SCHEDULED,
        JobState.SCHEDULED,
        JobState.QUEUED,
    ]


def test_alone_and_in_a_transaction_it_is_the_same(
    connection: Connection, registry: Registry
) -> None:
    for asked in ASKED:
        jobs = [check(registry, asked)]
        assert insert(connection, jobs) == rows_of(connection, jobs)


def test_an_id_that_is_there_is_refused_with_the_name_of_the_rule(
    engine: Engine, registry: Registry
) -> None:
    jobs = [check(registry, ASKED[0])]
    with autocommit(engine).connect() as connection:
        insert(connection, jobs)
        with pytest.raises(sa.exc.IntegrityError) as refused:
            insert(connection, jobs)
        assert getattr(refused.value.orig, "diag").constraint_name == "job_pkey"  # noqa: B009
        assert len(insert(connection, [check(registry, ASKED[1])])) == 1  # it goes on
