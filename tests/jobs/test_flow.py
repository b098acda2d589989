"""Turns, limits, rates and pauses, as the dispatcher keeps them; against PostgreSQL."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlmodel import col

from jobs import dispatch, gates, lifecycle
from jobs.attempts import Usage
from jobs.broker import Bell
from jobs.dispatch import Turns
from jobs.errors import LeaseLost, LimitMissing
from jobs.gates import Gate, Rate, Scope
from jobs.models import Job, KnownKind
from jobs.picks import AGED_EVERY, PICK_COUNTED, STEP
from tests.eventually import eventually
from tests.jobs.making import LEASE, PROJECT, read_job
from tests.jobs.ringing import add_job, add_worker, count_rung
from tests.jobs.test_dispatch import jobs_of, rows_read

KEY_A, KEY_B = Gate(Scope.KEY, "a"), Gate(Scope.KEY, "b")
KIND, QUEUE = Gate(Scope.KIND, "test.echo"), Gate(Scope.QUEUE, "default")


def ring(connection: Connection, size: int = 100, turns: Turns | None = None) -> list[Bell]:
    """Whatever a dispatcher with a window of `size` would ring now."""
    bells = []
    for standing in dispatch.survey(connection, LEASE):
        bells += dispatch.pick(connection, standing, size, turns)
    return bells


def start(connection: Connection, bell: Bell) -> None:
    [(job_id, attempt)] = bell.attempts
    lifecycle.start(connection, job_id, attempt=attempt, worker=uuid4(), lease=LEASE)


def limit(connection: Connection, gate: Gate, number: int | None, rate: Rate | None = None) -> None:
    gates.set_limit(connection, PROJECT, gate, concurrency=number, rate=rate)


def keys_of(connection: Connection, bells: list[Bell]) -> list[str | None]:
    return [read_job(connection, job_id).concurrency_key for job_id in jobs_of(bells)]


def add_keyed(connection: Connection, *keys: str | None, **columns: Any) -> list[UUID]:
    return [add_job(connection, concurrency_key=key, **columns) for key in keys]


def test_keys_take_turns_within_a_priority(connection: Connection) -> None:
    add_worker(connection)
    add_keyed(connection, *"aaaaaabbc")
    high = add_keyed(connection, "a", priority=7)
    bells = ring(connection, 6)
    assert jobs_of(bells)[0] == high[0]
    assert Counter(keys_of(connection, bells[1:4])) == {"a": 1, "b": 1, "c": 1}


def test_turns_go_on_where_the_last_look_ended(connection: Connection) -> None:
    add_worker(connection)
    add_keyed(connection, *"abcdeabcde")
    turns = Turns()
    rung = [
        key for size in range(1, 11) for key in keys_of(connection, ring(connection, size, turns))
    ]
    assert rung == [*"abcdeabcde"]


def test_jobs_without_a_key_take_every_other_turn(connection: Connection) -> None:
    add_worker(connection)
    add_keyed(connection, *[None] * 6, *"abcdef")
    turns = Turns()
    rung = [
        key for size in range(1, 9) for key in keys_of(connection, ring(connection, size, turns))
    ]
    assert [key is None for key in rung] == [True, False] * 4


def test_a_crowd_of_one_key_does_not_delay_another(connection: Connection) -> None:
    add_worker(connection)
    connection.execute(
        text("""
    INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at,
                     queued_at, concurrency_key)
    SELECT gen_random_uuid(), 'test.echo', 'queued', 'default', 5, '{}', 1, 1, now(), now(), 'crowd'
    FROM generate_series(1, 5000)""")
    )
    [other] = add_keyed(connection, "zzz")
    assert other in jobs_of(ring(connection, 4))


@pytest.mark.parametrize("has_urgent", [False, True], ids=["alone", "beside urgent ones"])
def test_a_crowd_that_has_aged_is_not_heard_before_another_key(
    connection: Connection, has_urgent: bool
) -> None:
    add_worker(connection)
    old = func.clock_timestamp() - timedelta(minutes=3)
    add_keyed(connection, *["crowd"] * 30, queued_at=old)
    if has_urgent:
        add_job(connection, priority=9)
    first = ring(connection, 10)
    [other] = add_keyed(connection, "zzz")
    second, third = ring(connection, 12), ring(connection, 20)
    [loudness] = [bell.priority for bell in second if jobs_of([bell]) == [other]]
    others = {bell.priority for bell in (*first, *second, *third)} - {9}
    assert others == {loudness} == ({8} if has_urgent else {5})


@pytest.mark.parametrize("keys", [1, 3000])
def test_a_large_backlog_of_keys_is_not_walked(connection: Connection, keys: int) -> None:
    add_worker(connection)
    for setting in ("enable_seqscan", "enable_bitmapscan"):
        connection.execute(text(f"SET LOCAL {setting} = off"))
    connection.execute(
        text("""
    INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at,
                     queued_at, concurrency_key)
    SELECT gen_random_uuid(), 'test.echo', 'queued', 'default', 5, '{}', 1, 1, now(), now(),
           'key ' || number % :keys
    FROM generate_series(1, 6000) AS number"""),
        {"keys": keys},
    )
    assert rows_read(connection, dispatch._surveyed(LEASE)) < 100
    binds = {"queue": "default", "projects": [PROJECT], "kinds": ["test.echo"], "priorities": [5]}
    more = {"keyed": [True], "after": ["key 2"], "offset": 0, "window": 10}
    assert rows_read(connection, PICK_COUNTED, **binds, **more) < 400
    assert count_rung(connection) == 10


def test_low_priorities_do_not_starve(connection: Connection) -> None:
    add_worker(connection)
    an_hour_ago = func.clock_timestamp() - timedelta(hours=1)
    old = add_job(connection, priority=0, queued_at=an_hour_ago)
    for _ in range(20):
        add_job(connection, priority=9)
    turns = Turns()
    bells = [bell for size in range(1, AGED_EVERY + 1) for bell in ring(connection, size, turns)]
    [bell] = [bell for bell in bells if jobs_of([bell]) == [old]]
    assert bell.priority == 9  # or it would wait in the broker behind all others


def test_a_bell_that_urgent_ones_pass_over_is_rung_anew_and_louder(
    connection: Connection,
) -> None:
    add_worker(connection)
    old = func.clock_timestamp() - timedelta(minutes=3)
    waits = add_job(connection, priority=2, queued_at=old, rung_at=old)
    assert dispatch.forget_passed_over(connection, timedelta(minutes=1)) == 0
    urgent = add_job(connection, priority=9)
    [bell] = [bell for bell in ring(connection) if jobs_of([bell]) == [urgent]]
    start(connection, bell)
    assert dispatch.forget_passed_over(connection, timedelta(minutes=1)) == 1
    [bell] = ring(connection)
    assert (jobs_of([bell]), bell.priority) == ([waits], 5)


def test_a_priority_is_worth_a_minute(connection: Connection) -> None:
    add_worker(connection)
    now = func.clock_timestamp()
    for _ in range(10):
        add_job(connection, priority=9)
    ages = {1: 10 * STEP, 3: 7 * STEP, 0: 8 * STEP}
    ids = {
        p: add_job(connection, priority=p, queued_at=now - timedelta(seconds=s))
        for p, s in ages.items()
    }
    rung = jobs_of(ring(connection, AGED_EVERY))
    assert [p for p in ids if ids[p] in rung] == [1]


def test_no_more_of_a_key_are_rung_than_its_limit(connection: Connection) -> None:
    add_worker(connection, queues=["default", "other"])
    limit(connection, KEY_A, 3)
    add_keyed(connection, *"aaa")
    add_keyed(connection, *"aaa", queue="other")
    add_keyed(connection, *"bbbb")
    bells = ring(connection)
    assert Counter(keys_of(connection, bells)) == {"a": 3, "b": 4}
    first = next(bell for bell in bells if keys_of(connection, [bell]) == ["a"])
    start(connection, first)
    assert ring(connection) == []
    [(job_id, attempt)] = first.attempts
    lifecycle.succeed(connection, job_id, attempt=attempt, result=None, usage=Usage())
    assert keys_of(connection, ring(connection)) == ["a"]


@pytest.mark.parametrize("gate", [KIND, QUEUE], ids=str)
def test_kinds_and_queues_have_limits_too(connection: Connection, gate: Gate) -> None:
    add_worker(connection)
    limit(connection, gate, 2)
    add_keyed(connection, None, "a", None, "b")
    bells = ring(connection)
    assert len(bells) == 2
    start(connection, bells[0])
    assert ring(connection) == []
    limit(connection, gate, 3)
    assert len(ring(connection)) == 2  # and the bell that hung is rung anew


def test_a_kind_brings_its_own_limit(connection: Connection) -> None:
    add_worker(connection)
    known = {"name": "test.echo", "queue": "default", "max_attempts": 1, "secret_args": []}
    connection.execute(insert(KnownKind).values(**known, concurrency=2))
    add_keyed(connection, *[None] * 4)
    assert len(ring(connection)) == 2
    limit(connection, KIND, 3)
    assert len(ring(connection)) == 3


def test_a_bell_whose_mark_was_taken_back_starts_nothing_that_is_limited(
    connection: Connection,
) -> None:
    add_worker(connection)
    add_keyed(connection, "a", None)
    bells = ring(connection)
    limit(connection, KIND, 1)
    assert count_rung(connection) == 0
    for bell in bells:
        with pytest.raises(LeaseLost):
            start(connection, bell)
    [counted] = ring(connection)
    start(connection, counted)


def test_without_limits_a_bell_needs_no_mark(connection: Connection) -> None:
    add_worker(connection)
    add_job(connection)
    [bell] = ring(connection)
    connection.execute(update(Job).values(rung_at=None))
    start(connection, bell)


@pytest.mark.parametrize("gate", [KEY_A, KIND, QUEUE], ids=str)
def test_a_pause_stops_bells_that_hang_and_a_resume_lets_them_go(
    connection: Connection, gate: Gate
) -> None:
    add_worker(connection)
    add_keyed(connection, "a")
    [bell] = ring(connection)
    gates.pause(connection, PROJECT, gate, reason="moving", by="Ada")
    again = gates.pause(connection, PROJECT, gate, reason="why not", by="Bob")
    assert (again.paused_by, again.pause_reason) == ("Ada", "moving")
    assert ring(connection) == []
    with pytest.raises(LeaseLost):
        start(connection, bell)
    gates.resume(connection, PROJECT, gate)
    [bell] = ring(connection)
    start(connection, bell)


def test_a_pause_is_of_one_project(connection: Connection) -> None:
    add_worker(connection)
    gates.pause(connection, "theirs", KEY_A, reason=None, by="Ada")
    add_keyed(connection, "a")
    assert len(ring(connection)) == 1


@pytest.mark.parametrize("gate", [KEY_A, KIND, QUEUE], ids=str)
def test_a_rate_lets_a_burst_go_and_then_one_at_a_time(connection: Connection, gate: Gate) -> None:
    add_worker(connection)
    limit(connection, gate, None, Rate(limit=60, period=timedelta(hours=1), burst=3))
    add_keyed(connection, *"aaaaa")
    bells = ring(connection)
    assert len(bells) == 3
    for bell in bells:
        start(connection, bell)
    assert ring(connection) == []
    connection.execute(
        text("UPDATE gate SET rate_spent_until = rate_spent_until - interval '61 seconds'")
    )
    assert len(ring(connection)) == 1


def test_bells_of_a_rate_do_not_gather(connection: Connection) -> None:
    add_worker(connection)
    limit(connection, KEY_A, None, Rate(limit=60, period=timedelta(hours=1), burst=2))
    add_keyed(connection, *"aaaaa")
    assert len(ring(connection)) == 2
    connection.execute(text("UPDATE gate SET rate_spent_until = now() - interval '1 hour'"))
    assert ring(connection) == []  # two hang already, and may be answered together


def test_a_limit_can_be_taken_away(connection: Connection) -> None:
    limit(connection, KEY_A, 1)
    gates.pause(connection, PROJECT, KEY_A, reason=None, by="Ada")
    limit(connection, KEY_B, 7)
    shown = gates.page_gates(connection, PROJECT, limit=10, after=None)
    assert [(gate.name, gate.concurrency, gate.paused) for gate in shown] == [
        ("a", 1, True),
        ("b", 7, False),
    ]
    gates.delete_limit(connection, PROJECT, KEY_A)
    gates.delete_limit(connection, PROJECT, KEY_B)
    assert gates.get_gate(connection, PROJECT, KEY_A).paused
    with pytest.raises(LimitMissing):
        gates.find_limit(connection, PROJECT, KEY_B)


@pytest.fixture
def crowd(engine: Engine) -> Iterator[Engine]:
    """Sixty jobs of one key in two queues, of which two may run at a time."""
    with engine.begin() as setup:
        add_worker(setup, queues=["default", "other"], slots=50)
        limit(setup, KEY_A, 2)
        for number in range(60):
            add_keyed(setup, "a", queue=["default", "other"][number % 2])
    yield engine
    with engine.begin() as cleanup:
        cleanup.execute(text("TRUNCATE job, worker, gate CASCADE"))


class Race:
    """Two dispatchers, four workers; bells are lost, doubled and late, attempts crash."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rung: list[Bell] = []
        self.seen: list[int] = []  #: attempts that ran, whenever one had been started
        self.done = threading.Event()

    def run(self, jobs: int) -> None:
        threads = [threading.Thread(target=self.dispatch) for _ in range(2)]
        threads += [threading.Thread(target=self.work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: self.count("succeeded") == jobs, within=60)
        finally:
            self.done.set()
            for thread in threads:
                thread.join()

    def count(self, state: str) -> int:
        with self.engine.connect() as connection:
            statement = select(func.count()).where(col(Job.state) == state)
            return connection.execute(statement).scalar_one()

    def dispatch(self) -> None:
        turns = Turns()
        with self.engine.connect() as connection:
            while not self.done.wait(0.005):
                with connection.begin():
                    bells = ring(connection, 40, turns)
                self.rung.extend(bells * 2)
                with connection.begin():  # as if some were lost; they come all the same
                    connection.execute(_LOSE)

    def work(self, number: int) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not self.done.wait(0.001):
                with suppress(IndexError, LeaseLost):
                    self.make(connection, self.rung.pop(-number))

    def make(self, connection: Connection, bell: Bell) -> None:
        [(job_id, attempt)] = bell.attempts
        start(connection, bell)
        running = select(func.count()).where(col(Job.state) == "running")
        self.seen.append(connection.execute(running).scalar_one())
        if job_id.int % 5 == 0 and attempt == 1:
            lifecycle.crash(connection, job_id, attempt=attempt, detail="gone")
        else:
            lifecycle.succeed(connection, job_id, attempt=attempt, result=None)


_LOSE = text("UPDATE job SET rung_at = NULL WHERE rung_at IS NOT NULL AND random() < 0.2")


def test_racing_dispatchers_and_workers_never_exceed_a_limit(crowd: Engine) -> None:
    race = Race(crowd)
    race.run(60)
    assert len(race.seen) >= 60
    assert max(race.seen) <= 2
    with crowd.connect() as connection:
        assert most_running(connection) <= 2


def most_running(connection: Connection) -> int:
    """The most attempts that ran at a time, by the events of their begin and end."""
    most: int = connection.execute(
        text("""
    SELECT max(running) FROM (
        SELECT sum(CASE type WHEN 'started' THEN 1 ELSE -1 END) OVER (ORDER BY at, type) AS running
        FROM job_event WHERE type IN ('started', 'succeeded', 'crashed')
    ) AS counted""")
    ).scalar_one()
    return most
