"""The broker dies, is wiped, freezes, or loses a bell."""

from functools import partial

from sqlalchemy import Connection, func

from dev.valkey import EmbeddedValkey
from jobs.broker import Broker
from jobs.hints import WAKE
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import make_job
from tests.jobs.ringing import add_job, count_rung
from tests.worker.dispatcher.conftest import (
    Running,
    frozen,
    has_state,
    wait_until_it_rescues,
)
from tests.worker.dispatcher.hearing import pop

WINDOW = 4  # of two slots
FAILED = "bells wait for the broker"
# Seconds from the broker's return until its window is full again: 5, and 3 more for a machine
# that runs other tests meanwhile.
WITHIN = 5.0 + 3.0


def has_bells(bells: Broker, queue: str, number: int) -> bool:
    return bells.is_alive() and bells.queue_length(queue) == number


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
    assert [job_id for job_id, _ in pop(bells, served, 10)] == ids[:WINDOW]
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
    ids = [add_job(eyes, queue=served) for _ in range(3)]
    eventually(partial(has_bells, bells, served, 3))
    assert pop(bells, served) == [(ids[0], 1)]
    eventually(partial(has_bells, bells, served, 3))
    assert sorted(pop(bells, served, 10)) == sorted((job_id, 1) for job_id in ids)
    assert dispatcher.count("bells are rung again") == 1


def test_a_full_broker_is_tried_again(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker
) -> None:
    failures = dispatcher.count(FAILED)
    bells._redis.config_set("maxmemory", 1)  # every write is refused
    try:
        add_job(eyes, queue=served)
        eventually(lambda: dispatcher.count(FAILED) > failures)
        eventually(lambda: count_rung(eyes, served) == 0)
        assert bells.queue_length(served) == 0
    finally:
        bells._redis.config_set("maxmemory", 0)
    eventually(partial(has_bells, bells, served, 1))


def test_a_frozen_broker_stops_nothing_but_the_ringing(
    dispatcher: Running, eyes: Connection, served: str, bells: Broker, own_valkey: EmbeddedValkey
) -> None:
    wait_until_it_rescues(eyes, served)
    with frozen(own_valkey):
        now = func.clock_timestamp()
        due = make_job(eyes, JobState.SCHEDULED, queue=served, attempt=0, run_at=now)
        orphan = make_job(eyes, JobState.RUNNING, queue=served, lease_until=now)
        expired = add_job(eyes, queue=served, expires_at=now)
        eventually(partial(has_state, eyes, due, JobState.QUEUED))
        eventually(partial(has_state, eyes, orphan, JobState.QUEUED))
        eventually(partial(has_state, eyes, expired, JobState.CANCELLED))
    eventually(lambda: bells.queue_length(served) >= 3, within=20)
    assert dispatcher.process.poll() is None
