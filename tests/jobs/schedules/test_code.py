"""Schedules that stand in the code, and their rows."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import Connection

from jobs.errors import ScheduleFromCode
from jobs.registry import Registry
from jobs.schedules import store
from jobs.schedules.code import GONE_AFTER, forget_gone, register_schedules
from jobs.schedules.store import ScheduleView
from lading import JobContext, Schedule, job
from lading.authoring import find_kind
from tests.jobs.schedules.making import PROJECT, be_late, jobs_of, turn

LEASE = timedelta(seconds=30)


class Nothing(BaseModel):
    day: str = "today"


def code(**schedule: Any) -> Registry:
    """What a worker has loaded: one kind, and the schedule that its code gives it."""

    @job("test.report", **schedule)
    def report(context: JobContext, args: Nothing) -> None:
        pass

    kind = find_kind(report)
    assert kind is not None
    return Registry([kind])


def found(connection: Connection) -> ScheduleView:
    [schedule] = store.page(connection, PROJECT, limit=10, kind="test.report").schedules
    return schedule


def age(connection: Connection, schedule_id: UUID, by: timedelta) -> None:
    connection.execute(
        sa.text("UPDATE schedule SET known_at = known_at - :by WHERE id = :id"),
        {"by": by, "id": schedule_id},
    )


def test_a_worker_brings_its_schedules_and_their_changes(connection: Connection) -> None:
    daily = code(schedule="0 7 * * *", timezone="Europe/Berlin")
    assert register_schedules(connection, daily)
    first = found(connection)
    assert (first.name, first.source, first.cron) == ("@test.report", "code", "0 7 * * *")
    assert not register_schedules(connection, daily)
    store.pause(connection, PROJECT, first.id)
    assert register_schedules(connection, code(schedule="0 8 * * *", timezone="Europe/Berlin"))
    changed = found(connection)
    assert (changed.id, changed.cron, changed.paused) == (first.id, "0 8 * * *", True)
    assert changed.next_at != first.next_at


def test_its_ticks_make_jobs_without_args(connection: Connection) -> None:
    register_schedules(connection, code(schedule="* * * * *"))
    schedule = found(connection)
    connection.execute(sa.text("UPDATE schedule SET next_at = date_trunc('minute', now())"))
    turn(connection)
    assert [each.args for each in jobs_of(connection, schedule)] == [{}]


def test_what_a_schedule_says_of_its_jobs_is_theirs(connection: Connection) -> None:
    plan = Schedule(
        cron="* * * * *", args={"day": "monday"}, labels={"a": "b"}, priority=8, overlap="skip"
    )
    assert register_schedules(connection, code(schedule=plan))
    schedule = found(connection)
    assert (schedule.overlap, schedule.misfire) == ("skip", "last")
    connection.execute(sa.text("UPDATE schedule SET next_at = date_trunc('minute', now())"))
    turn(connection)
    [made] = jobs_of(connection, schedule)
    assert (made.args, made.priority, made.labels["a"]) == ({"day": "monday"}, 8, "b")


def test_a_due_tick_stays_due_where_other_words_change(connection: Connection) -> None:
    register_schedules(connection, code(schedule=Schedule(cron="0 7 * * *", priority=3)))
    due = sa.text("UPDATE schedule SET next_at = now() RETURNING next_at")
    due_at = connection.execute(due).scalar_one()
    again = code(schedule=Schedule(cron="0 7 * * *", priority=4, args={"day": "friday"}))
    assert register_schedules(connection, again)
    assert not register_schedules(connection, again)
    changed = found(connection)
    assert (changed.priority, changed.args) == (4, {"day": "friday"})
    assert changed.next_at == due_at


def test_one_that_can_make_no_job_is_as_good_as_none(connection: Connection) -> None:
    register_schedules(connection, code(schedule="* * * * *"))
    impossible = Schedule(cron="* * * * *", labels={"lading.tick": "mine"})
    assert register_schedules(connection, code(schedule=impossible))
    assert found(connection).gone_at is not None


def test_what_the_code_says_is_changed_there(connection: Connection) -> None:
    daily = code(schedule="0 7 * * *")
    register_schedules(connection, daily)
    schedule = found(connection)
    with pytest.raises(ScheduleFromCode):
        store.edit(connection, daily, PROJECT, schedule.id, {"cron": "0 8 * * *"})
    with pytest.raises(ScheduleFromCode):
        store.delete(connection, PROJECT, schedule.id)
    (made,) = store.run_now(connection, PROJECT, schedule.id, uuid4()).made
    assert made.schedule_id == schedule.id


def test_one_that_has_left_the_code_is_seen_and_makes_nothing(connection: Connection) -> None:
    register_schedules(connection, code(schedule="* * * * *"))
    assert register_schedules(connection, code())
    gone = found(connection)
    assert gone.gone_at is not None
    assert gone.times() == []
    connection.execute(sa.text("UPDATE schedule SET next_at = date_trunc('minute', now())"))
    assert turn(connection).schedules == 0
    register_schedules(connection, code(schedule="* * * * *"))
    assert found(connection).gone_at is None
    register_schedules(connection, code())
    store.delete(connection, PROJECT, gone.id)


def test_one_whose_kind_no_worker_has_had_for_a_day_is_gone(connection: Connection) -> None:
    register_schedules(connection, code(schedule="* * * * *"))
    schedule = found(connection)
    age(connection, schedule.id, GONE_AFTER - timedelta(hours=1))
    assert forget_gone(connection, LEASE) == 0
    worker = {"id": uuid4(), "kinds": ["test.report"]}
    connection.execute(
        sa.text(
            "INSERT INTO worker (id, host, pid, pool, queues, kinds, slots)"
            " VALUES (:id, 'here', 1, 'prefork', '{}', :kinds, 1)"
        ),
        worker,
    )
    age(connection, schedule.id, timedelta(days=9))
    assert forget_gone(connection, LEASE) == 0
    connection.execute(sa.text("DELETE FROM worker WHERE id = :id"), worker)
    age(connection, schedule.id, timedelta(days=9))
    assert forget_gone(connection, LEASE) == 1
    be_late(connection, schedule, timedelta(minutes=1))
    assert turn(connection).schedules == 0


@pytest.mark.parametrize(
    "schedule", [{"schedule": "61 * * * *"}, {"schedule": "0 7 * * *", "timezone": "Mars/X"}]
)
def test_a_schedule_that_cannot_be_is_found_when_the_kinds_are_loaded(
    schedule: dict[str, str],
) -> None:
    with pytest.raises(ValueError, match=r"test\.report"):
        code(**schedule)
