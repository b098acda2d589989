"""The running accounts: quiet where all is well, shared by dispatchers, silent when mended.

That they find each kind of damage is shown in test_audit.py.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import accounts, balance, histories
from jobs.accounts import WALKS
from jobs.ids import FIRST, LAST, first_id
from tests.jobs.living import claim, remove, submit, succeed
from tests.jobs.making import LEASE
from tests.jobs.overseeing import clear, look, oversee

DAY = timedelta(days=1)
NEW_HISTORIES = WALKS[1]


@pytest.fixture
def clean(connection: Connection) -> Connection:
    clear(connection)
    return connection


def test_what_was_found_goes_when_it_is_mended(clean: Connection) -> None:
    job_id = submit(clean, 5)[2]
    clean.execute(text("UPDATE job SET seq = 2 WHERE id = :id"), {"id": job_id})
    clean.execute(text("UPDATE intake_total SET accepted = accepted + 3"))
    assert look(clean) == {"missing": 3, "wrong_seq": 1}
    found = clean.execute(text("SELECT id, found_at FROM account_finding")).all()
    assert job_id in {row.id for row in found}
    assert look(clean) == {"missing": 3, "wrong_seq": 1}
    assert clean.execute(text("SELECT id, found_at FROM account_finding")).all() == found
    clean.execute(text("UPDATE job SET seq = 1 WHERE id = :id"), {"id": job_id})
    clean.execute(text("UPDATE intake_total SET accepted = accepted - 3"))
    assert look(clean) == {}


def test_a_job_with_much_wrong_counts_once(clean: Connection) -> None:
    job_id = submit(clean)[0]
    clean.execute(
        text("UPDATE job SET seq = 2, attempt = 3, failures = 1 WHERE id = :id"), {"id": job_id}
    )
    assert look(clean) == {"wrong_seq": 1}


def test_before_anybody_has_looked_nothing_is_said(clean: Connection) -> None:
    standing = accounts.read_standing(clean)
    assert (standing.checked_at, standing.ages) == (None, {})
    look(clean)
    standing = accounts.read_standing(clean)
    assert standing.checked_at is not None
    assert {*standing.ages} == {"overdue", "newest", "balance", "new histories", "histories"}
    assert all(0 <= age < 60 for age in standing.ages.values())


def stale(connection: Connection) -> None:
    """Ten days ago a lease ran out, and a job should have been released."""
    claim(connection, submit(connection)[0])
    submit(connection, delay=DAY)
    connection.execute(
        text("""
            UPDATE job SET run_at = now() - interval '10 days', lease_until =
                CASE state WHEN 'running' THEN now() - interval '10 days' END
        """)
    )


def test_what_is_overdue_is_found_once_somebody_could_have_seen_to_it(clean: Connection) -> None:
    stale(clean)
    oversee(clean, age=DAY)
    assert look(clean) == {"lease_ran_out": 1, "not_released": 1}


@pytest.mark.parametrize(
    ("since", "age", "lease"),
    [("PostgreSQL", 9 * DAY, DAY), ("the dispatcher", timedelta(0), LEASE)],
    ids=["PostgreSQL has just started", "the dispatcher has just started"],
)
def test_after_an_absence_nothing_is_overdue(
    clean: Connection, since: str, age: timedelta, lease: timedelta
) -> None:
    stale(clean)
    oversee(clean, age=age)
    assert look(clean, lease=lease) == {}


def test_without_a_dispatcher_nothing_is_overdue(clean: Connection) -> None:
    stale(clean)
    oversee(clean, age=DAY)
    clean.execute(text("UPDATE dispatcher SET seen_at = now() - interval '1 hour'"))
    assert look(clean) == {}


def test_a_gap_between_two_looks_is_an_absence(clean: Connection) -> None:
    stale(clean)
    oversee(clean, age=DAY)
    clean.execute(text("UPDATE account_check SET checked_at = now() - interval '1 hour'"))
    accounts.check_overdue(clean, timedelta(minutes=1))  # in which nothing is too late again
    assert accounts.read_standing(clean).unaccounted["lease_ran_out"] == 0
    began = clean.execute(text("SELECT began_at > now() - interval '1 minute' FROM account_check"))
    assert began.scalar_one()


def test_new_histories_are_read_once_and_at_a_distance(clean: Connection) -> None:
    jobs = submit(clean, 4)
    walk = NEW_HISTORIES._replace(behind=timedelta(0))
    assert not accounts.advance(clean, NEW_HISTORIES, 100), "they are too young"
    clean.execute(text("UPDATE job SET seq = 9 WHERE id = :id"), {"id": jobs[0]})
    assert accounts.advance(clean, walk, 1)
    assert accounts.read_standing(clean).unaccounted["wrong_seq"] == 1
    while accounts.advance(clean, walk, 2):
        pass
    position = clean.execute(
        text("SELECT position FROM account_check WHERE name = 'new histories'")
    ).scalar_one()
    assert jobs[-1] < position <= first_id(datetime.now(UTC) + timedelta(minutes=1))


def test_a_whole_pass_is_followed_by_a_rest(clean: Connection) -> None:
    submit(clean, 4)
    look(clean)
    whole = WALKS[2]
    clean.execute(text("UPDATE job SET seq = 9"))
    assert not accounts.advance(clean, whole, 100)
    assert accounts.read_standing(clean).unaccounted["wrong_seq"] == 0
    clean.execute(text("UPDATE account_check SET ended_at = ended_at - interval '61 seconds'"))
    assert not accounts.advance(clean, whole, 100)
    assert accounts.read_standing(clean).unaccounted["wrong_seq"] == 4


@pytest.fixture
def quiet(clean: Connection) -> Connection:
    """Of a platform that has seen all there is: one job, which ended an hour ago."""
    job_id = submit(clean, ago=timedelta(hours=1))[0]
    succeed(clean, job_id)
    look(clean)
    clean.execute(
        text("UPDATE account_check SET position = :first WHERE name = 'new histories'"),
        {"first": FIRST},
    )
    assert not accounts.advance(clean, NEW_HISTORIES, 100), "it is at its end"
    assert accounts.rest_quietly(clean, LEASE)
    return clean


def test_where_nothing_is_new_one_statement_says_so(quiet: Connection) -> None:
    quiet.execute(text("UPDATE account_check SET checked_at = now() - interval '5 seconds'"))
    before = accounts.read_standing(quiet).checked_at
    assert accounts.rest_quietly(quiet, LEASE)
    standing = accounts.read_standing(quiet)
    assert before is not None
    assert standing.checked_at is not None
    assert standing.checked_at > before
    assert standing.ages["newest"] < 60
    began = "SELECT began_at <= ended_at FROM account_check WHERE name <> 'overdue'"
    assert quiet.execute(text(began)).scalars().all() == [True] * 4


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO account_finding (id, reason, jobs) VALUES (gen_random_uuid(), 'missing', 1)",
        "INSERT INTO intake_total VALUES ('ffffffff', gen_random_uuid(), 1)",
        "UPDATE job SET id = CAST('ffffffff' || substr(CAST(id AS text), 9) AS uuid)",
        "UPDATE account_check SET checked_at = now() - interval '1 hour' WHERE name = 'overdue'",
        "UPDATE account_check SET ended_at = ended_at - interval '61 s' WHERE name = 'balance'",
        "DELETE FROM account_check WHERE name = 'newest'",
        "UPDATE account_check SET position = DEFAULT WHERE name = 'new histories'",
    ],
)
def test_whatever_there_may_be_to_see_is_looked_at(quiet: Connection, change: str) -> None:
    quiet.execute(text("SET LOCAL session_replication_role = replica"))
    quiet.execute(text(change))
    assert not accounts.rest_quietly(quiet, LEASE)


def test_a_job_that_lives_or_is_new_is_looked_at(quiet: Connection) -> None:
    job_id = submit(quiet, ago=timedelta(hours=1))[0]
    assert not accounts.rest_quietly(quiet, LEASE), "it waits"
    succeed(quiet, job_id)
    assert accounts.rest_quietly(quiet, LEASE), "it has gone by"
    succeed(quiet, submit(quiet)[0])
    assert not accounts.rest_quietly(quiet, LEASE)


def test_slices_end_where_their_size_is_reached(clean: Connection) -> None:
    jobs = submit(clean, 3)
    for job_id in jobs:
        succeed(clean, job_id)  # three events each
    reach = histories.find_reach(clean, FIRST, 4)
    assert reach == jobs[1]
    assert histories.find_reach(clean, reach, 1) == LAST
    assert histories.find_reach(clean, LAST, 1) == LAST
    clean.execute(text("INSERT INTO intake_total VALUES ('00000001', :id, 5)"), {"id": uuid4()})
    assert balance.find_reach(clean, FIRST, 5) == balance.last_of("00000001")
    assert balance.find_reach(clean, FIRST, 6) == LAST


def test_settled_counts_are_few_and_the_same(clean: Connection) -> None:
    for bucket in ("00000001", "00000002", "00000003"):
        for removed in (5, 5, 4 if bucket == "00000003" else 5):
            clean.execute(
                text("INSERT INTO intake_total VALUES (:bucket, :id, 5, :removed)"),
                {"bucket": bucket, "id": uuid4(), "removed": removed},
            )
    before = [each.expected for each in balance.compare(clean)]
    for limit in (4, 100):
        balance.settle(clean, datetime.now(UTC), limit)
        assert [each.expected for each in balance.compare(clean)] == before == [1]
    rows = clean.execute(text("SELECT * FROM intake_total ORDER BY bucket")).all()
    assert [tuple(row) for row in rows] == [("", FIRST, 30, 30), ("00000003", FIRST, 15, 14)]


def test_two_dispatchers_do_not_wait_for_each_other(engine: Engine) -> None:
    with engine.begin() as connection:
        look(connection)
        job_id = submit(connection)[0]
    with engine.begin() as one, engine.begin() as other:
        accounts.check_newest(one)
        other.execute(text("SET LOCAL lock_timeout = '1ms'"))
        accounts.check_newest(other)
        accounts.check_overdue(other, LEASE)
        assert not accounts.advance(one, WALKS[1], 100)
    with engine.begin() as connection:
        succeed(connection, job_id)
        remove(connection, job_id)
