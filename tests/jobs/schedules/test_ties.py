"""What ties a schedule's jobs to others: unique keys, concurrency keys, webhooks."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from jobs.errors import InvalidSubmission, UniqueConflict
from jobs.explain import explain
from jobs.registry import Registry, load_registry
from jobs.removal import delete_job
from jobs.schedules import store
from jobs.schedules.models import Overlap
from jobs.waiting import parents
from tests.jobs.making import LEASE
from tests.jobs.schedules.making import PROJECT, be_late, end, jobs_of, make, outcomes, start, turn

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def test_a_ticks_job_has_the_schedules_ties(connection: Connection, registry: Registry) -> None:
    shared, hook = {"key": "tenant-7", "limit": 2}, {"url": "https://example.org/hooks"}
    unique = {"key": "report", "scope": "queued"}
    schedule = make(connection, registry, unique=unique, concurrency=shared, webhook=hook)
    be_late(connection, schedule, SECOND)
    turn(connection)
    (job,) = jobs_of(connection, schedule)
    assert (job.unique_key, job.unique_scope) == ("report", "queued")
    assert (job.concurrency_key, job.concurrency_limit) == ("tenant-7", 2)
    told = connection.execute(sa.text("SELECT job_id, url FROM job_webhook")).all()
    assert told == [(job.id, hook["url"])]


def test_a_tick_is_skipped_while_another_job_has_the_key(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry, unique={"key": "one"})
    other = make(connection, registry)
    for seconds in (20, 10):
        be_late(connection, schedule, seconds * SECOND)
        be_late(connection, other, seconds * SECOND)
        turn(connection)
    (job,) = jobs_of(connection, schedule)
    assert outcomes(connection, schedule) == [("fired", None, 1), ("skipped", "unique", 1)]
    assert store.get(connection, PROJECT, schedule.id).last_job_id == job.id
    assert len(jobs_of(connection, other)) == 2  # nobody else suffers
    with pytest.raises(UniqueConflict):
        store.run_now(connection, PROJECT, schedule.id, uuid4())
    end(connection, job.id)
    be_late(connection, schedule, SECOND)
    turn(connection)
    assert len(jobs_of(connection, schedule)) == 2


def test_the_policies_of_a_key_are_those_of_a_submission(
    connection: Connection, registry: Registry
) -> None:
    kept = make(connection, registry, unique={"key": "kept", "on_conflict": "return"})
    (first,) = store.run_now(connection, PROJECT, kept.id, uuid4()).made
    again = store.run_now(connection, PROJECT, kept.id, uuid4())
    assert ([job.id for job in again.jobs], again.made) == ([first.id], [])
    assert outcomes(connection, kept) == [("fired", "run_now", 1)]
    replaced = make(connection, registry, unique={"key": "new", "on_conflict": "replace"})
    for seconds in (20, 10):
        be_late(connection, replaced, seconds * SECOND)
        turn(connection)
    assert [job.state for job in jobs_of(connection, replaced)] == ["cancelled", "queued"]


@pytest.mark.parametrize("end_of_it", ["cancelled", "deleted"])
def test_a_new_job_takes_its_key_from_the_one_that_it_replaces(
    connection: Connection, registry: Registry, end_of_it: str
) -> None:
    key = {"key": f"heir-{end_of_it}"}
    schedule = make(connection, registry, unique=key, overlap=Overlap.CANCEL_OLD)
    be_late(connection, schedule, 40 * SECOND)
    turn(connection)
    be_late(connection, schedule, 30 * SECOND)
    fired = turn(connection)
    first, second = jobs_of(connection, schedule)
    assert [(job.state, job.unique_key) for job in (first, second)] == [
        ("cancelled", key["key"]),
        ("queued", key["key"]),
    ]
    assert [each.type for each in fired.moved] == ["cancelled", "created"]
    start(connection, second.id)
    be_late(connection, schedule, 20 * SECOND)
    turn(connection)
    _, second, third = jobs_of(connection, schedule)
    assert (second.state, second.cancel_requested, second.unique_key) == ("running", True, None)
    assert (third.state, third.unique_key, third.after) == ("waiting", key["key"], [second.id])
    be_late(connection, schedule, 10 * SECOND)
    turn(connection)
    *_, third, fourth = jobs_of(connection, schedule)
    assert (third.state, fourth.state, fourth.after) == ("cancelled", "waiting", [second.id])
    reason = explain(connection, PROJECT, fourth.id, LEASE).reasons[0]
    detail = f"it waits for 1 job to end: {second.id}"
    assert (reason.detail, reason.facts["jobs"]) == (detail, [second.id])
    if end_of_it == "cancelled":
        parents.tell(connection, 10)
        assert explain(connection, PROJECT, fourth.id, LEASE).reasons[0] == reason
    end(connection, second.id)
    if end_of_it == "deleted":
        delete_job(connection, PROJECT, second.id, process_id=uuid4())
    parents.tell(connection, 10)
    parents.settle(connection, 10)
    assert jobs_of(connection, schedule)[-1].parents_left == 0
    assert [outcome for outcome, *_ in outcomes(connection, schedule)] == ["fired"] * 4


def test_a_strangers_job_keeps_its_key_and_what_a_tick_would_replace_goes_on(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry, overlap=Overlap.CANCEL_OLD)
    be_late(connection, schedule, 10 * SECOND)
    turn(connection)
    stranger = make(connection, registry, unique={"key": "stranger"})
    store.run_now(connection, PROJECT, stranger.id, uuid4())
    changes = {"unique": {"key": "stranger"}}
    store.edit(connection, registry, PROJECT, schedule.id, changes)
    be_late(connection, schedule, SECOND)
    assert [each.type for each in turn(connection).moved] == []
    (old,) = jobs_of(connection, schedule)
    assert old.state == "queued"
    assert outcomes(connection, schedule)[-1] == ("skipped", "unique", 1)


def test_a_key_that_is_just_being_taken_holds_up_no_other_schedule(
    engine: Engine, registry: Registry
) -> None:
    with engine.begin() as connection:
        schedules = [
            make(connection, registry, unique={"key": "taken"}),
            make(connection, registry),
        ]
        for schedule in schedules:
            be_late(connection, schedule, SECOND)
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.connect() as connection:
            call = sa.text("SELECT lading_enqueue('test.echo', '{}', CAST(:options AS jsonb))")
            connection.execute(call, {"options": '{"unique": {"key": "taken"}}'})
            taken.set()
            done.wait(30)
            connection.rollback()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert taken.wait(30)
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
            turn(connection)
            assert [len(jobs_of(connection, each)) for each in schedules] == [0, 1]
            assert outcomes(connection, schedules[0]) == [("skipped", "unique", 1)]
            connection.execute(sa.text("DELETE FROM schedule"))
    finally:
        done.set()
        holder.join(30)


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"unique": {"key": ""}}, "#/unique/key"),
        ({"unique": {"kee": "x"}}, "#/unique"),
        ({"concurrency": {"key": "x", "limit": 0}}, "#/concurrency/limit"),
        ({"webhook": {"url": "ftp://x"}}, "#/webhook/url"),
        ({"webhook": {"url": "https://x", "secret": "whsec_x"}}, "#/webhook/secret"),
    ],
    ids=range(5),
)
def test_what_no_submission_may_say_no_schedule_says(
    connection: Connection, registry: Registry, asked: dict[str, dict[str, str]], pointer: str
) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        make(connection, registry, **asked)
    assert [flaw.pointer for flaw in caught.value.flaws] == [pointer]
