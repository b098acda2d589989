"""The broker dies, is wiped, freezes, or loses a bell."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, func, text, update
from sqlmodel import col

from dev.ports import LOOPBACK
from dev.valkey import EmbeddedValkey
from jobs import lifecycle
from jobs.broker import Broker
from jobs.dispatch import MAX_WINDOW
from jobs.hints import WAKE
from jobs.models import Job
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import PROJECT, make_job
from tests.jobs.ringing import add_job, add_jobs, count_rung, list_rung
from tests.worker.dispatcher.conftest import (
    Running,
    frozen,
    has_bells,
    has_state,
    wait_until_it_rescues,
)
from tests.worker.dispatcher.hearing import pop

WINDOW = 4  # of two slots
FAILED = "bells wait for the broker"
# Seconds from the broker's return until its window is full again: 5, and 10 more for a machine
# that runs other tests meanwhile and now and then stands still.
WITHIN = 5.0 + 10.0


OPEN_TRANSACTIONS = text("""
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'lading dispatcher' AND clock_timestamp() - xact_start > interval '1 s'
""")


def count_looks(bells: Broker) -> int:
    """How often dispatchers have read the epoch."""
    return int(bells._redis.info("commandstats")["cmdstat_get"]["calls"])


def test_a_killed_broker_is_rung_anew(
    dispatcher: Running,
    eyes: Connection,
    served: str,
    bells: Broker,
    own_valkey: EmbeddedValkey,
) -> None:
    ids = [add_job(eyes, queue=served) for _ in range(3)]
    eventually(partial(has_bells, bells, served, 3))
    failures = dispatcher.count(FAILED)
    own_valkey.kill()
    ids += [add_job(eyes, queue=served) for _ in range(5)]
    eventually(lambda: dispatcher.count(FAILED) > failures)
    own_valkey.start()
    eventually(partial(has_bells, bells, served, WINDOW), within=WITHIN)
    eventually(lambda: count_rung(eyes, served) == WINDOW)
    assert sorted(job_id for job_id, _ in pop(bells, served, 10)) == ids[:WINDOW]
    eventually(lambda: bells._redis.pubsub_numsub(WAKE)[0][1] == 1)  # hints are heard again
    assert dispatcher.process.poll() is None


def test_a_wiped_broker_is_rung_anew(
    dispatchers: list[Running], eyes: Connection, served: str, bells: Broker
) -> None:
    ids = [add_job(eyes, queue=served) for _ in range(8)]
    eventually(partial(has_bells, bells, served, WINDOW))
    before = sum(each.count("a new broker") for each in dispatchers)
    bells._redis.flushall()
    eventually(partial(has_bells, bells, served, WINDOW), within=WITHIN)
    looks = count_looks(bells)
    eventually(lambda: count_looks(bells) > looks + 2 * len(dispatchers))
    assert sum(each.count("a new broker") for each in dispatchers) == before + 1
    assert [job_id for job_id, _ in pop(bells, served, 10)] == ids[:WINDOW]


def test_a_bell_that_a_dying_worker_has_popped_is_rung_again(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker
) -> None:
    said = dispatcher.count("bells are rung again")
    ids = [add_job(eyes, queue=served) for _ in range(3)]
    eventually(partial(has_bells, bells, served, 3))
    assert pop(bells, served) == [(ids[0], 1)]
    eventually(partial(has_bells, bells, served, 3))
    assert sorted(pop(bells, served, 10)) == sorted((job_id, 1) for job_id in ids)
    assert dispatcher.count("bells are rung again") == said + 1


def test_a_lost_bell_is_told_from_those_that_still_hang(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker
) -> None:
    """Older ones of a lower priority hang on, and a stale one makes up the number."""
    low = [add_job(eyes, queue=served, priority=0) for _ in range(2)]
    eventually(partial(has_bells, bells, served, 2))
    stale, lost = add_job(eyes, queue=served, priority=1), add_job(eyes, queue=served, priority=9)
    eventually(partial(has_bells, bells, served, 4))
    assert pop(bells, served) == [(lost, 1)]
    lifecycle.cancel(eyes, PROJECT, stale, "test")
    eventually(partial(has_bells, bells, served, 4))
    assert pop(bells, served, 10) == [(lost, 1), (stale, 1), *((job_id, 1) for job_id in low)]


def look_often(bells: Broker, command: str, times: int) -> None:
    """Dispatchers have given this command so often."""

    def count() -> int:
        stats = bells._redis.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])

    end = count() + times
    eventually(lambda: count() >= end)


def is_answered(bells: Broker, connection: Connection, queue: str) -> bool:
    """Others have been rung for instead, or too many bells hang already."""
    return count_rung(connection, queue) > 0 or bells.queue_length(queue) >= 2 * WINDOW


def cancel_rung(connection: Connection, queue: str) -> int:
    """How many jobs were."""
    cancel = update(Job).where(col(Job.id).in_(list_rung(connection, queue)))
    end = {"state": JobState.CANCELLED, "finished_at": func.clock_timestamp(), "rung_at": None}
    return connection.execute(cancel.values(**end)).rowcount


def test_fifty_thousand_jobs_that_nobody_starts_are_no_storm(
    dispatchers: list[Running], eyes: Connection, served: str, bells: Broker
) -> None:
    add_jobs(eyes, served, 50_000)
    eventually(partial(has_bells, bells, served, WINDOW))
    for _ in range(4):  # looks for lost bells, at ten lists of a queue, while none is answered
        look_often(bells, "lrange", 10 * len(dispatchers))
        assert bells.queue_length(served) == count_rung(eyes, served) == WINDOW
    while cancel_rung(eyes, served):  # whose bells stay, and nobody hears them
        eventually(partial(is_answered, bells, eyes, served))
    assert bells.queue_length(served) <= 2 * MAX_WINDOW
    bells._redis.flushall()
    eventually(lambda: 0 < bells.queue_length(served) == count_rung(eyes, served), within=WITHIN)
    look_often(bells, "lrange", 10 * len(dispatchers))
    rung = list_rung(eyes, served)
    assert len(rung) <= MAX_WINDOW
    assert sorted(job_id for job_id, _ in pop(bells, served, 2 * MAX_WINDOW)) == sorted(rung)


@contextmanager
def refusing(bells: Broker, how: str) -> Iterator[None]:
    """Inside, the broker answers, but takes no bells."""
    do, undo = REFUSALS[how]
    bells._redis.execute_command(*do)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        bells._redis.execute_command(*undo)  # type: ignore[no-untyped-call]


REFUSALS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "full": (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "a replica": (("REPLICAOF", LOOPBACK, 1), ("REPLICAOF", "NO", "ONE")),
    "forbidden": (
        ("ACL", "SETUSER", "default", "-lpush"),
        ("ACL", "SETUSER", "default", "+lpush"),
    ),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_broker_that_refuses_is_tried_again(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker, how: str
) -> None:
    failures = dispatcher.count(FAILED)
    with refusing(bells, how):
        add_job(eyes, queue=served)
        eventually(lambda: dispatcher.count(FAILED) > failures)
        eventually(lambda: count_rung(eyes, served) == 0)
        assert bells.queue_length(served) == 0
    eventually(partial(has_bells, bells, served, 1), within=WITHIN)


def test_a_broker_with_another_password_is_waited_for(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker
) -> None:
    add_job(eyes, queue=served)
    eventually(partial(has_bells, bells, served, 1))
    failures = dispatcher.count(FAILED)
    bells._redis.config_set("requirepass", "other")
    try:
        bells._redis.client_kill_filter(_type="normal", skipme=True)
        add_job(eyes, queue=served)
        eventually(lambda: dispatcher.count(FAILED) > failures)
        eventually(lambda: count_rung(eyes, served) == 1)  # the mark is taken back
    finally:
        bells._redis.config_set("requirepass", "")
    eventually(partial(has_bells, bells, served, 2), within=WITHIN)
    assert dispatcher.process.poll() is None


def test_a_frozen_broker_stops_nothing_but_the_ringing(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker, own_valkey: EmbeddedValkey
) -> None:
    wait_until_it_rescues(eyes, served)
    failures = dispatcher.count(FAILED)
    with frozen(own_valkey):
        now = func.clock_timestamp()
        due = make_job(eyes, JobState.SCHEDULED, queue=served, attempt=0, run_at=now)
        orphan = make_job(eyes, JobState.RUNNING, queue=served, lease_until=now)
        expired = add_job(eyes, queue=served, expires_at=now)
        eventually(partial(has_state, eyes, due, JobState.QUEUED))
        eventually(partial(has_state, eyes, orphan, JobState.QUEUED))
        eventually(partial(has_state, eyes, expired, JobState.CANCELLED))
        eventually(lambda: dispatcher.count(FAILED) > failures)
        assert eyes.execute(OPEN_TRANSACTIONS).scalar_one() == 0
    eventually(lambda: bells.queue_length(served) >= 3, within=20)
    assert dispatcher.process.poll() is None
