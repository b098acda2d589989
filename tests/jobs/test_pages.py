"""Pages of a list: what they show is what fits, in few steps, however little of it there is."""

import random
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, select, text
from sqlmodel import col

from jobs import pages
from jobs.ids import uuid7
from jobs.models import Job
from jobs.pages import page_jobs
from jobs.queries import JobFilter, conditions_of, get_job
from jobs.states import JobState
from tests.jobs.making import make_job
from tests.jobs.plans import rows_read

HOUR = timedelta(hours=1)
# Jobs of six hours: two kinds and three queues, of which none has all. Ids lie as their times do.
MANY = """
INSERT INTO job (id, kind, state, queue, priority, args, labels, max_attempts, seq, created_at,
                 queued_at, finished_at, error)
SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0') || '70008000'
            || lpad(to_hex(number), 12, '0') AS uuid),
       CASE WHEN number % 3 = 0 THEN 'one' ELSE 'two' END, CAST(state AS job_state),
       CASE WHEN number = 7 THEN 'rare' WHEN number % 3 = 0 THEN 'io' ELSE 'default' END, 5, '{}',
       CAST(CASE WHEN number % 2 = 0 THEN '{"even": "1"}' ELSE '{}' END AS jsonb), 1, 3, at, at, at,
       CASE state WHEN 'failed' THEN CAST('{}' AS jsonb) END
FROM (SELECT number, now() - (900 - number) * interval '24 s' AS at,
             CASE WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END AS state
      FROM generate_series(1, 900) AS number) AS row
"""
SMALL = 60
FILTERS = [
    JobFilter(),
    JobFilter(kind="one"),
    JobFilter(kind="one", queue="io"),
    JobFilter(kind="two", queue="io"),
    JobFilter(kind="one", queue="default"),
    JobFilter(kind="two", queue="rare"),
    JobFilter(queue="default", states=[JobState.SUCCEEDED]),
    JobFilter(queue="io", states=[JobState.FAILED], kind="one"),
    JobFilter(queue="io", states=[JobState.FAILED], kind="two"),
    JobFilter(queue="io", states=[JobState.QUEUED]),
    JobFilter(states=[JobState.QUEUED, JobState.FAILED], kind="two"),
    JobFilter(kind="two", labels={"even": "1"}),
    JobFilter(queue="rare", labels={"even": "1"}),
    JobFilter(kind="one", labels={"even": "1"}, states=[JobState.FAILED]),
]


@pytest.fixture
def many(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Many jobs, of which a page reads few; some ids are astray by minutes or hours."""
    monkeypatch.setattr(pages, "MOST_READ", SMALL)
    monkeypatch.setattr(pages, "QUICK", SMALL // 2)
    connection.execute(text("DELETE FROM job"))
    connection.execute(text(MANY))
    at = connection.execute(text("SELECT now() - interval '2 hours'")).scalar_one()
    for off in (-20 * HOUR, -HOUR, -HOUR / 6, HOUR / 6, HOUR, 20 * HOUR):
        moved = int((at + off).timestamp() * 1000) << 80 | uuid7().int % (1 << 80)
        make_job(connection, id=UUID(int=moved), created_at=at, kind="one", queue="io")
    connection.execute(text("ANALYZE job"))
    return connection


def walk(connection: Connection, wanted: JobFilter, limit: int) -> tuple[list[UUID], int]:
    """All that a list shows, by its pages, and how many these were."""
    found, before, count = list[UUID](), None, 0
    while True:
        page = page_jobs(connection, "default", wanted, limit=limit, before=before)
        assert len(page.jobs) <= limit
        found += [job.id for job in page.jobs]
        count, before = count + 1, page.last_id
        if before is None:
            return found, count


def test_pages_that_stop_show_all_there_is_once(many: Connection) -> None:
    now = many.execute(text("SELECT now()")).scalar_one()
    limit = random.randint(30, 60)
    windows: list[dict[str, Any]] = [
        {},
        {"created_before": now - HOUR},
        {"created_after": now - 3 * HOUR, "created_before": now - HOUR},
    ]
    for wanted, window in product(FILTERS, windows):
        asked = JobFilter(**{**each(wanted), **window})
        fitting = select(col(Job.id)).where(*conditions_of(asked)).order_by(col(Job.id).desc())
        assert walk(many, asked, limit)[0] == [*many.execute(fitting).scalars()], (asked, limit)


def each(wanted: JobFilter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in JobFilter.__slots__}


def test_what_fits_no_job_is_found_out_in_pages_that_read_few(many: Connection) -> None:
    found, count = walk(many, JobFilter(kind="two", queue="io"), 50)
    assert found == []
    assert 2 <= count <= 900 / 3 / SMALL + 2
    assert rows_of_page(many, JobFilter(kind="two", queue="io")) <= 7 * SMALL


def test_a_window_reads_neither_the_day_before_nor_the_day_behind(many: Connection) -> None:
    now = many.execute(text("SELECT now()")).scalar_one()
    window = JobFilter(created_after=now - 4 * HOUR, created_before=now - 3 * HOUR)
    assert rows_of_page(many, window) <= 5 * SMALL


def test_another_projects_jobs_are_on_no_page(many: Connection) -> None:
    for wanted in FILTERS:
        assert page_jobs(many, "another", wanted, limit=50).jobs == []


def test_args_are_left_out_unless_asked_for(connection: Connection) -> None:
    job_id = make_job(connection, kind="one", queue="io", labels={"alone": "1"})
    wanted = JobFilter(kind="one", queue="io", labels={"alone": "1"})
    [job] = page_jobs(connection, "default", wanted, limit=5).jobs
    assert (job.id, job.args) == (job_id, None)
    [job] = page_jobs(connection, "default", wanted, limit=5, full=True).jobs
    assert job == get_job(connection, "default", job_id)


def rows_of_page(connection: Connection, wanted: JobFilter) -> float:
    """Read by all of its statements."""
    ask = partial(page_jobs, connection, "default", wanted, limit=50)
    return sum(rows_read(connection, ask))
