"""What is due becomes jobs, each tick once."""

import threading
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from jobs.registry import Registry, load_registry
from jobs.schedules import firing, store
from jobs.schedules.firing import GRACE, decide
from jobs.schedules.forms import Form
from jobs.schedules.making import DueSchedule
from jobs.schedules.models import Misfire, Overlap
from tests.jobs.schedules.making import (
    PROJECT,
    be_late,
    end,
    jobs_of,
    make,
    outcomes,
    ticks,
    turn,
)

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def test_a_tick_makes_a_job_with_its_event(connection: Connection, registry: Registry) -> None:
    schedule = make(connection, registry, labels={"a": "b"}, priority=7, timezone="Asia/Kathmandu")
    assert firing.find_next(connection) is not None
    due = be_late(connection, schedule, SECOND)
    fired = turn(connection)
    [job] = jobs_of(connection, schedule)
    assert (job.kind, job.args, job.priority, job.queue) == (
        "test.echo",
        {"value": 1},
        7,
        "default",
    )
    local = due.astimezone(ZoneInfo("Asia/Kathmandu")).isoformat()
    assert job.labels == {"a": "b", "lading.tick": local}
    assert (job.state, job.run_at) == ("queued", due)
    [told] = fired.moved
    assert (told.id, told.type, told.seq) == (job.id, "created", 1)
    [tick] = ticks(connection, schedule)
    assert (tick.tick_at, tick.job_id, tick.outcome) == (due, job.id, "fired")
    now = store.get(connection, PROJECT, schedule.id)
    assert (now.next_at, now.last_tick_at, now.last_job_id) == (due + HOUR, due, job.id)
    assert turn(connection).schedules == 0


def test_ticks_take_the_kinds_defaults_of_their_time(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry, expires_in=MINUTE)
    connection.execute(
        sa.text("UPDATE kind SET queue = 'mine', max_attempts = 9 WHERE name = 'test.echo'")
    )
    due = be_late(connection, schedule, SECOND)
    turn(connection)
    [job] = jobs_of(connection, schedule)
    assert (job.queue, job.max_attempts) == ("mine", 9)
    assert job.expires_at == due + MINUTE


def test_secrets_stay_where_they_belong(connection: Connection, registry: Registry) -> None:
    args = {"user": "me", "password": "hunter2"}
    schedule = make(connection, registry, kind="test.secret", args=args)
    assert "hunter2" not in str(schedule)
    edited = store.edit(connection, registry, PROJECT, schedule.id, {"priority": 1})
    assert "hunter2" not in str(edited)
    be_late(connection, schedule, SECOND)
    turn(connection)
    [job] = jobs_of(connection, schedule)
    assert job.args == args
    assert "hunter2" not in str(job.redacted_args)


@pytest.mark.parametrize(
    ("misfire", "made", "history"),
    [
        ({"misfire": Misfire.SKIP}, 1, [("skipped", "misfire", 5), ("fired", None, 1)]),
        ({"misfire": Misfire.LAST}, 1, [("skipped", "misfire", 5), ("fired", None, 1)]),
        (
            {"misfire": Misfire.ALL, "misfire_max": 3},
            3,
            [("skipped", "misfire", 3), *[("fired", None, 1)] * 3],
        ),
        ({"misfire": Misfire.ALL}, 6, [("fired", None, 1)] * 6),
    ],
)
def test_what_was_missed_is_up_to_the_policy(
    connection: Connection,
    registry: Registry,
    misfire: dict[str, Any],
    made: int,
    history: list[tuple[str, str | None, int]],
) -> None:
    schedule = make(connection, registry, every=MINUTE, **misfire)
    be_late(connection, schedule, 5 * MINUTE)
    turn(connection)
    assert len(jobs_of(connection, schedule)) == made
    assert outcomes(connection, schedule) == history


@pytest.mark.parametrize(("misfire", "made"), [(Misfire.SKIP, 0), (Misfire.LAST, 1)])
def test_a_single_tick_that_comes_too_late(
    connection: Connection, registry: Registry, misfire: Misfire, made: int
) -> None:
    schedule = make(connection, registry, every=24 * HOUR, misfire=misfire)
    be_late(connection, schedule, GRACE + MINUTE)
    turn(connection)
    assert len(jobs_of(connection, schedule)) == made
    assert [tick.ticks for tick in ticks(connection, schedule)] == [1]


def test_a_tick_may_overlap_unless_told_otherwise(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry)
    for _ in range(2):
        be_late(connection, schedule, SECOND)
        connection.execute(sa.text("UPDATE schedule_tick SET tick_at = tick_at - interval '1 h'"))
        turn(connection)
    assert len(jobs_of(connection, schedule)) == 2


def test_a_tick_is_skipped_while_the_one_before_goes_on(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry, every=MINUTE, overlap=Overlap.SKIP, misfire=Misfire.ALL)
    be_late(connection, schedule, MINUTE)
    turn(connection)
    assert outcomes(connection, schedule) == [("fired", None, 1), ("skipped", "overlap", 1)]
    [first] = jobs_of(connection, schedule)
    end(connection, first.id)
    connection.execute(sa.text("UPDATE schedule_tick SET tick_at = tick_at - interval '1 h'"))
    be_late(connection, schedule, SECOND)
    turn(connection)
    assert len(jobs_of(connection, schedule)) == 2


def test_a_tick_may_end_the_job_before_it(connection: Connection, registry: Registry) -> None:
    schedule = make(connection, registry, every=MINUTE, overlap=Overlap.CANCEL_OLD)
    be_late(connection, schedule, SECOND)
    turn(connection)
    connection.execute(sa.text("UPDATE schedule_tick SET tick_at = tick_at - interval '1 h'"))
    be_late(connection, schedule, SECOND)
    fired = turn(connection)
    old, new = jobs_of(connection, schedule)
    assert (old.state, new.state) == ("cancelled", "queued")
    assert [(each.id, each.type) for each in fired.moved] == [
        (new.id, "created"),
        (old.id, "cancelled"),
    ]


def test_a_decided_tick_is_never_decided_again(connection: Connection, registry: Registry) -> None:
    schedule = make(connection, registry)
    due = be_late(connection, schedule, SECOND)
    turn(connection)
    connection.execute(
        sa.text("UPDATE schedule SET next_at = :due WHERE id = :id"),
        {"due": due, "id": schedule.id},
    )
    turn(connection)
    assert len(jobs_of(connection, schedule)) == 1
    assert store.get(connection, PROJECT, schedule.id).next_at == due + HOUR


def test_a_plan_of_a_schedule_that_has_changed_is_dropped(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry)
    be_late(connection, schedule, SECOND)
    stale = [decide(each) for each in firing.list_due(connection, 10)]
    store.edit(connection, registry, PROJECT, schedule.id, {"args": {"value": 2}})
    assert firing.fire(connection, stale, uuid4()).schedules == 0
    turn(connection)
    assert [job.args for job in jobs_of(connection, schedule)] == [{"value": 2}]


def test_a_paused_schedule_waits_and_its_policy_decides_later(
    connection: Connection, registry: Registry
) -> None:
    schedule = make(connection, registry, every=MINUTE, misfire=Misfire.ALL)
    be_late(connection, schedule, 2 * MINUTE)
    store.pause(connection, PROJECT, schedule.id)
    assert turn(connection).schedules == 0
    store.resume(connection, PROJECT, schedule.id)
    turn(connection)
    assert len(jobs_of(connection, schedule)) == 3


def test_run_now_is_beside_the_plan(connection: Connection, registry: Registry) -> None:
    schedule = make(connection, registry, overlap=Overlap.SKIP)
    store.pause(connection, PROJECT, schedule.id)
    jobs = [store.run_now(connection, PROJECT, schedule.id, uuid4()).jobs[0] for _ in range(2)]
    assert [job.id for job in jobs_of(connection, schedule)] == [job.id for job in jobs]
    assert outcomes(connection, schedule) == [("fired", "run_now", 1)] * 2
    assert store.get(connection, PROJECT, schedule.id).next_at == schedule.next_at


def test_a_one_off_fires_once_and_has_no_next_time(
    connection: Connection, registry: Registry
) -> None:
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    schedule = make(connection, registry, at=now - SECOND)
    assert turn(connection).schedules == 1
    assert store.get(connection, PROJECT, schedule.id).next_at is None
    assert len(jobs_of(connection, schedule)) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(Misfire),
    st.integers(1, 8),
    st.integers(1, 300),
    st.floats(0, 2000),
)
def test_every_due_tick_is_made_or_counted(
    misfire: Misfire, most: int, every: int, late: float
) -> None:
    now = datetime.fromisoformat("2026-05-05T00:00:00+00:00")
    first = now - timedelta(seconds=late)
    schedule = DueSchedule(
        id=uuid4(),
        project_id=PROJECT,
        version=1,
        next_at=first,
        now=now,
        form=Form(every_seconds=float(every), anchor_at=first),
        misfire=misfire,
        misfire_max=most,
        overlap=Overlap.ALLOW,
        kind="test.echo",
        queue="default",
        priority=5,
        args="{}",
        redacted_args=None,
        labels={},
        ties={},
        sealed=None,
        max_attempts=1,
        timeout_seconds=None,
        expires_seconds=None,
    )
    decision = decide(schedule)
    due = int((now - first) / timedelta(seconds=every)) + 1
    assert len(decision.ticks) + decision.missed_count == due
    is_late = now - first - (due - 1) * timedelta(seconds=every) > GRACE
    most_made = {Misfire.SKIP: 0 if is_late else 1, Misfire.LAST: 1, Misfire.ALL: most}[misfire]
    assert len(decision.ticks) == min(due, most_made)
    assert (decision.missed is None) == (decision.missed_count == 0)
    assert decision.next_at == first + due * timedelta(seconds=every)


def test_many_that_look_at_once_make_one_job_a_tick(engine: Engine, registry: Registry) -> None:
    with engine.begin() as connection:
        made = [make(connection, registry, every=SECOND, misfire=Misfire.ALL) for _ in range(30)]
        for schedule in made:
            be_late(connection, schedule, 20 * SECOND)
    barrier = threading.Barrier(4)

    def look() -> None:
        barrier.wait()
        for _ in range(5):
            with engine.begin() as connection:
                turn(connection)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.begin() as connection:
        for schedule in made:
            fired = ticks(connection, schedule)
            steps = {b.tick_at - a.tick_at for a, b in pairwise(fired)}
            assert steps == {SECOND}
            assert len(fired) >= 21
            jobs = jobs_of(connection, schedule)
            assert {job.id for job in jobs} == {tick.job_id for tick in fired}
            assert len(jobs) == len(fired)
            store.delete(connection, PROJECT, schedule.id)
        connection.execute(sa.text("DELETE FROM job"))
