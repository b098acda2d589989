"""A lone job is rung by a statement of its own, and as any look would ring for it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, delete, func, insert, text, update

from jobs import dispatch
from jobs.broker import Bell
from jobs.direct import together
from jobs.dispatch import Turns
from jobs.gating import Gate
from jobs.models import Job, Worker
from jobs.picks import PICK_LONE
from jobs.states import JobState
from tests.jobs.making import LEASE, make_job, read_job
from tests.jobs.ringing import add_job, add_worker, count_rung

Change = Callable[[Connection], object]


def pick_lone(connection: Connection) -> list[tuple[object, ...]]:
    """What the statement marks, under the queue's lock."""
    binds = {"queue": "default", "lease": LEASE}
    _, found = together(connection, [(dispatch._LOCK, binds), (PICK_LONE, binds)])
    return [*found]


def pick_at_once(connection: Connection, turns: Turns) -> list[Bell]:
    return dispatch.pick_at_once(connection, "default", 10, LEASE, turns)


@pytest.mark.parametrize("attempt", [0, 2])
@pytest.mark.parametrize("loudest", [None, 9])
def test_a_lone_job_is_rung_as_by_any_look(
    connection: Connection, attempt: int, loudest: int | None
) -> None:
    add_worker(connection)
    if loudest is not None:
        make_job(connection, JobState.RUNNING, priority=loudest)
    job_id = add_job(connection, attempt=attempt, priority=3)
    with connection.begin_nested() as look:
        wanted = pick_at_once(connection, Turns())
        look.rollback()
    with connection.begin_nested() as look:
        assert pick_lone(connection) == [(job_id, attempt + 1, "test.echo", 3, False)]
        assert read_job(connection, job_id).rung_at is not None
        look.rollback()
    assert pick_at_once(connection, Turns(is_lonely=True)) == wanted
    assert len(wanted) == 1


def gate(scope: str, name: str, **columns: object) -> Change:
    row = {"project_id": "default", "scope": scope, "name": name, **columns}
    return lambda connection: connection.execute(insert(Gate).values(**row))


def job(**columns: object) -> Change:
    return lambda connection: connection.execute(update(Job).values(**columns))


LONG_AGO = func.clock_timestamp() - timedelta(minutes=2)
NOT_LONE: dict[str, Change] = {
    "another waits": add_job,
    "another has expired": lambda connection: add_job(connection, expires_at=LONG_AGO),
    "another hangs": lambda connection: add_job(connection, rung_at=func.clock_timestamp()),
    "another has a key": lambda connection: add_job(
        connection, concurrency_key="a", concurrency_limit=1
    ),
    "it has a key": job(concurrency_key="a", concurrency_limit=1),
    "it has aged": job(queued_at=LONG_AGO),
    "it has expired": job(expires_at=LONG_AGO),
    "it hangs": job(rung_at=func.clock_timestamp()),
    "something is limited": gate("kind", "test.other", concurrency=1),
    "its queue is paused": gate("queue", "default", paused=True),
    "its kind is paused": gate("kind", "test.echo", paused=True),
    "nobody knows its kind": job(kind="test.orphan"),
    "nobody lives": lambda connection: connection.execute(update(Worker).values(seen_at=LONG_AGO)),
}


@pytest.mark.parametrize("why", NOT_LONE)
def test_it_is_left_to_the_other_looks(connection: Connection, why: str) -> None:
    add_worker(connection)
    add_job(connection)
    NOT_LONE[why](connection)
    before = count_rung(connection)
    with connection.begin_nested() as look:
        wanted = pick_at_once(connection, Turns())
        look.rollback()
    assert pick_lone(connection) == []
    assert count_rung(connection) == before
    assert pick_at_once(connection, Turns(is_lonely=True)) == wanted


def test_of_a_queue_that_another_dispatcher_fills_nothing_is_rung(
    connection: Connection, engine: Engine
) -> None:
    add_worker(connection)
    add_job(connection)
    with engine.begin() as other:
        other.execute(text(f"SELECT {dispatch._QUEUE_LOCK}"), {"queue": "default"})
        assert pick_lone(connection) == []
        assert pick_at_once(connection, Turns(is_lonely=True)) == []


def test_what_comes_after_a_lone_job_is_rung_for_together(connection: Connection) -> None:
    add_worker(connection)
    turns = Turns()
    add_job(connection)
    assert len(pick_at_once(connection, turns)) == 1
    assert turns.is_lonely
    connection.execute(delete(Job))
    jobs = [add_job(connection) for _ in range(3)]
    found = pick_at_once(connection, turns)
    assert [bell.attempts[0][0] for bell in found] == jobs
    assert not turns.is_lonely
    assert turns.rung == 4
