"""The running accounts: exact beside racing submits and deletes, and quiet where all is well."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import accounts, balance
from jobs.accounts import WALKS, Walk
from jobs.ids import FIRST, LAST
from tests.jobs.living import claim, fail, live, remove, submit, succeed
from tests.jobs.making import LEASE

EVERYTHING = [walk._replace(behind=None) for walk in WALKS]


@pytest.fixture
def clean(connection: Connection) -> Connection:
    """No job, no account."""
    for table in ("job", "intake_total", "account_check", "account_finding", "dispatcher"):
        connection.execute(text(f"DELETE FROM {table}"))
    return connection


def look(connection: Connection, size: int = 3) -> dict[str, int]:
    """What is found after every check has seen everything."""
    connection.execute(text("UPDATE account_check SET position = :first"), {"first": FIRST})
    accounts.check_overdue(connection, LEASE)
    accounts.check_newest(connection)
    for walk in EVERYTHING:
        while accounts.advance(connection, walk, size):
            pass
    found = accounts.read_standing(connection).unaccounted
    return {reason: jobs for reason, jobs in found.items() if jobs}


def add_dispatcher(connection: Connection, age: timedelta) -> None:
    """One that is alive, and has been for so long; the checks, too."""
    connection.execute(
        text("""
            INSERT INTO dispatcher (id, host, pid, started_at)
            VALUES (gen_random_uuid(), 'here', 1, clock_timestamp() - :age)
        """),
        {"age": age},
    )
    connection.execute(
        text("""
            INSERT INTO account_check (name, checked_at, began_at)
            VALUES ('overdue', clock_timestamp(), clock_timestamp() - :age)
        """),
        {"age": age},
    )


def test_jobs_that_live_and_end_lawfully_are_accounted_for(clean: Connection) -> None:
    queued, running, failed, removed, *_ = submit(clean, 10)
    claim(clean, running)
    fail(clean, failed)
    succeed(clean, removed)
    remove(clean, removed)
    assert look(clean) == {}
    assert queued


def test_a_job_that_is_gone_is_missed_until_it_is_back(clean: Connection) -> None:
    jobs = submit(clean, 5)
    clean.execute(
        text("CREATE TEMP TABLE kept AS SELECT * FROM job WHERE id = :id"), {"id": jobs[2]}
    )
    clean.execute(
        text("CREATE TEMP TABLE log AS SELECT * FROM job_event WHERE job_id = :id"), {"id": jobs[2]}
    )
    clean.execute(text("DELETE FROM job WHERE id = :id"), {"id": jobs[2]})
    assert look(clean) == {"missing": 1}
    clean.execute(text("INSERT INTO job SELECT * FROM kept"))
    clean.execute(text("INSERT INTO job_event SELECT * FROM log"))
    assert look(clean) == {}


def test_a_job_that_nobody_accepted_is_seen(clean: Connection) -> None:
    submit(clean, 3)
    clean.execute(text("UPDATE intake_total SET accepted = accepted - 2"))
    assert look(clean) == {"uncounted": 2}
