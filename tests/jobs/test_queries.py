"""Reading jobs: one project's, newest first, without reading what is not shown."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from jobs.errors import InvalidTransition, JobNotFound
from jobs.pages import page_jobs
from jobs.queries import (
    JobFilter,
    get_job,
    get_submission,
    list_attempts,
    list_log,
)
from jobs.removal import delete_job
from jobs.states import FINAL, JobState
from tests.jobs.making import make_job, read
from tests.jobs.plans import rows_read


def ids(connection: Connection, wanted: JobFilter, **options: Any) -> list[UUID]:
    page = page_jobs(connection, "default", wanted, **{"limit": 50, **options})
    return [job.id for job in page.jobs]


def test_a_walk_by_pages_meets_each_job_once(connection: Connection) -> None:
    made = [make_job(connection, labels={"walk": "1"}) for _ in range(10)]
    wanted, found, before = JobFilter(labels={"walk": "1"}), list[UUID](), None
    while True:
        page = page_jobs(connection, "default", wanted, limit=3, before=before)
        found += [job.id for job in page.jobs]
        before = page.last_id
        if before is None:
            break
    assert found == made[::-1]


def test_a_page_that_ends_with_the_list_has_no_next(connection: Connection) -> None:
    for _ in range(3):
        make_job(connection, labels={"end": "1"})
    wanted = JobFilter(labels={"end": "1"})
    assert page_jobs(connection, "default", wanted, limit=3).last_id is None
    assert page_jobs(connection, "default", wanted, limit=2).last_id is not None


@pytest.mark.parametrize("state", JobState)
def test_each_state_can_be_asked_for(connection: Connection, state: JobState) -> None:
    made = {each: make_job(connection, each, labels={"states": "1"}) for each in JobState}
    labels = {"states": "1"}
    assert ids(connection, JobFilter(states=[state], labels=labels)) == [made[state]]


def test_a_label_matches_whole_and_among_others(connection: Connection) -> None:
    job_id = make_job(connection, labels={"a": "1", "b": "2"})
    assert ids(connection, JobFilter(labels={"a": "1"})) == [job_id]
    assert ids(connection, JobFilter(labels={"a": "1", "b": "2"})) == [job_id]
    for other in ({"a": "2"}, {"a": "1", "b": "1"}, {"c": ""}, {"a": "1%"}):
        assert ids(connection, JobFilter(labels=other)) == []


def test_a_submitters_clock_may_be_wrong_by_hours(connection: Connection) -> None:
    """The id is made by another clock than `created_at`."""
    job_id = make_job(connection, labels={"skew": "1"})
    at = get_job(connection, "default", job_id).created_at
    for hours in (-20, 20):
        moved = UUID(int=job_id.int + (hours * 3_600_000 << 80))
        other = make_job(connection, id=moved, created_at=at, labels={"skew": str(hours)})
        wanted = JobFilter(
            labels={"skew": str(hours)},
            created_after=at - timedelta(seconds=1),
            created_before=at + timedelta(seconds=1),
        )
        assert ids(connection, wanted) == [other]


def test_what_belongs_to_a_job_is_its_projects(connection: Connection) -> None:
    job_id = make_job(connection)
    for read_one in (get_job, list_attempts, get_submission):
        read_one(connection, "default", job_id)
        for project, other in (("another", job_id), ("default", uuid4())):
            with pytest.raises(JobNotFound):
                read_one(connection, project, other)
    assert list_log(connection, "default", job_id, 0) == []
    with pytest.raises(JobNotFound):
        list_log(connection, "another", job_id, 0)


def test_dropped_log_events_show_no_lines(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    connection.execute(
        text(
            "INSERT INTO job_event (job_id, seq, type, attempt, data)"
            " VALUES (:id, 2, 'log', 1, '{\"dropped\": 100}')"
        ),
        {"id": job_id},
    )
    assert list_log(connection, "default", job_id, 0) == []


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_deleted_once_it_has_ended(connection: Connection, state: JobState) -> None:
    job_id, process_id = make_job(connection, state), uuid4()
    if state in FINAL:
        delete_job(connection, "default", job_id, process_id=process_id)
        with pytest.raises(JobNotFound):
            delete_job(connection, "default", job_id, process_id=process_id)
        assert removed(connection, process_id) == 1
    else:
        before = read(connection, job_id)
        with pytest.raises(InvalidTransition):
            delete_job(connection, "default", job_id, process_id=process_id)
        assert read(connection, job_id) == before
        assert removed(connection, process_id) is None
    with pytest.raises(JobNotFound):
        delete_job(connection, "another", job_id, process_id=process_id)


def removed(connection: Connection, process_id: UUID) -> int | None:
    statement = text("SELECT removed FROM intake_total WHERE process_id = :id")
    found: int | None = connection.execute(statement, {"id": process_id}).scalar_one_or_none()
    return found


MANY = """
INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at, queued_at,
                 finished_at, error)
SELECT gen_random_uuid(), 'kind ' || number % 2, CAST(state AS job_state),
       CASE number % 1000 WHEN 7 THEN 'rare' ELSE 'default' END, 5, '{}', 1, 3, clock_timestamp(),
       clock_timestamp(), clock_timestamp(), CASE state WHEN 'failed' THEN CAST('{}' AS jsonb) END
FROM generate_series(1, 10000) AS number,
     LATERAL (SELECT CASE WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END AS state) AS own
"""


def test_the_few_that_are_looked_for_are_not_sought_among_all(connection: Connection) -> None:
    connection.execute(text(MANY))
    connection.execute(text("ANALYZE job"))
    queued = make_job(connection, kind="kind 1")
    for wanted, found in [
        (JobFilter(states=[JobState.QUEUED]), 1),
        (JobFilter(states=[JobState.QUEUED, JobState.RUNNING], kind="kind 1"), 1),
        (JobFilter(queue="rare"), 10),
        (JobFilter(queue="none"), 0),
        (JobFilter(kind="kind 1", states=[JobState.FAILED]), 0),
        (JobFilter(kind="none"), 0),
    ]:
        assert len(ids(connection, wanted)) == found
        [rows] = rows_read(connection, partial(page_jobs, connection, "default", wanted, limit=50))
        assert rows <= 30, wanted
    assert ids(connection, JobFilter(states=[JobState.QUEUED])) == [queued]
