"""Events of applications' own transactions and of handlers, and the consumers that follow them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise

import psycopg

from chaos.book import Entry, Order
from chaos.consumers import Consumer, OverSse, OverWebSocket
from chaos.deeds import DONE, SAID, TABLE, Deeds
from chaos.scenario import scenario
from chaos.scenarios.servers import crash_postgres, restart_postgres, wipe_redis
from chaos.stage import LONGEST, PATIENCE, Stage
from chaos.waiting import NotInTime, until

APPLICATIONS = 6
RATE = 6.0  # jobs a second that publish as well, each twice
ROUNDS = 3
BETWEEN = 0.6  # seconds
CREATED, NO_CONTENT = 201, 204
MET_WITHIN = 60.0  # seconds from the last fault until each event has made its job
TOLD_WITHIN = 60.0  # and until each consumer has seen it
_EVENTS = "SELECT envelope -> 'data' ->> 'token' FROM cloud_event WHERE type = %s"
_PENDING = "SELECT count(*) FROM cloud_event WHERE type = %s AND is_pending"
_JOBS = """
SELECT args ->> 'token', array_agg(id::text) FROM job WHERE labels ->> 'of' = 'deed' GROUP BY 1
"""
_TRIGGER = {
    "type": SAID,
    "kind": "chaos.work",
    "args": {"token": "data.token", "ms": "data.ms"},
    "labels": {"of": "deed"},
}


@scenario(
    "deeds",
    title="events in applications' own transactions and of handlers, followed by two consumers;"
    " of two dispatchers one, an API, a worker and PostgreSQL killed or restarted, Redis wiped,"
    f" {ROUNDS} times each",
    plain="has none",
    seconds=60,
)
def publish_with_deeds(stage: Stage) -> None:
    platform, client = stage.platform, stage.client()
    second = platform.add_dispatcher()
    platform.await_ready(second)
    with psycopg.connect(platform.postgres.url) as connection:
        connection.execute(TABLE)
    made = client.ask("POST", "/v1/triggers", _TRIGGER, patience=PATIENCE)
    stage.check(made.status == CREATED, f"no trigger: {made}")
    consumers = [_consumer(stage, kind) for kind in (OverSse, OverWebSocket)]
    deeds = Deeds(
        platform.postgres.url, [stage.random.getrandbits(32) for _ in range(APPLICATIONS)]
    )
    deeds.begin()
    orders = [
        stage.order("chaos.say", {"ms": 15}, asks_database=True)
        for _ in range(round(RATE * LONGEST))
    ]
    load = stage.load(RATE, LONGEST, orders=orders)
    try:
        for number in range(ROUNDS):
            _strike(stage, number)
            for consumer in consumers:
                consumer.join()
        stage.wait(BETWEEN)
    finally:
        load.stop()
        deeds.end(PATIENCE)
    load.join()
    platform.heal()
    stage.finish(stage.book.accepted)
    _judge_jobs(stage, deeds)
    _judge_consumers(stage, consumers)
    for path in (
        f"/v1/triggers/{made.body['id']}",
        *(f"/v1/consumers/{c.name}" for c in consumers),
    ):
        gone = client.ask("DELETE", path, patience=PATIENCE)
        stage.check(gone.status == NO_CONTENT, f"{path} stays: {gone}")
    client.close()
    platform.drop(second)


def _consumer(stage: Stage, kind: type[Consumer]) -> Consumer:
    """It follows from now on."""
    name = f"{kind.__name__.lower()}-{stage.random.getrandbits(64):x}"
    consumer = kind(name, SAID, stage.platform.urls, stage.platform.key)
    consumer.join()
    stage.check(consumer.await_first(PATIENCE), f"{name} could not join")
    return consumer


def _strike(stage: Stage, number: int) -> None:
    platform = stage.platform
    for keeper in (
        platform.dispatchers[number % len(platform.dispatchers)],
        platform.apis[number % len(platform.apis)],
        platform.workers[number % len(platform.workers)],
    ):
        platform.await_ready(keeper)
        stage.wait(BETWEEN)
        stage.kill(keeper)
    stage.wait(BETWEEN)
    wipe_redis(stage)
    stage.wait(BETWEEN)
    (restart_postgres if number % 2 else crash_postgres)(stage)


def _judge_jobs(stage: Stage, deeds: Deeds) -> None:
    """What was committed is an event, once; and each event has made one job, nothing else has."""
    query = stage.platform.query
    done = {token for (token,) in query(DONE)}
    sayers = [*stage.book.accepted]
    later = _later(stage, sayers)
    with suppress(NotInTime):
        until(lambda: query(_PENDING, SAID) == [(0,)], within=MET_WITHIN, every=0.5)
    said = Counter(token for (token,) in query(_EVENTS, SAID))
    stage.check(not done & deeds.undone, "a deed that was undone stands")
    stage.check(not said.keys() & deeds.undone, "a deed that was undone is an event")
    stage.check(done <= said.keys(), f"{len(done - said.keys())} deeds are no events")
    strange = said.keys() - done - later.keys()
    stage.check(not strange, f"{len(strange)} events are of no deed")
    stage.check({*said.values()} == {1}, f"{sum(said.values()) - len(said)} events are twins")
    missing = {token for token, is_certain in later.items() if is_certain} - said.keys()
    stage.check(not missing, f"{len(missing)} events of handlers are missing")
    jobs: Mapping[str, list[str]] = dict(query(_JOBS))
    stage.check(jobs.keys() == said.keys(), f"{len(jobs)} jobs of {len(said)} events")
    for token, ids in jobs.items():  # the verdict judges these as well
        stage.book.enter(Order("chaos.work", {"ms": 1}, {}, key=token)).ids.extend(ids)
    stage.tell(f"{len(said)} events, {len(deeds.undone)} deeds undone")


def _later(stage: Stage, sayers: Iterable[Entry]) -> dict[str, bool]:
    """The tokens of what handlers publish outside of a transaction, and whether it must be there.

    Each does, whose job has succeeded.
    """
    entries = {entry.id: entry for entry in sayers}
    client = stage.client()
    found = {
        f"{entries[job['id']].order.key}-2": job["state"] == "succeeded"
        for job in client.jobs([*entries])
    }
    client.close()
    return found


def _judge_consumers(stage: Stage, consumers: Iterable[Consumer]) -> None:
    """Each event came, and those of one speaker in their order."""
    tokens = {token for (token,) in stage.platform.query(_EVENTS, SAID)}
    for consumer in consumers:
        with suppress(NotInTime):
            until(lambda c=consumer: len(c.seen) >= len(tokens), within=TOLD_WITHIN, every=0.5)  # type: ignore[misc]
        consumer.end()
        name, seen = consumer.name, [each.data["token"] for each in consumer.seen]
        missing = tokens - {*seen}
        stage.check(not missing, f"{len(missing)} of {len(tokens)} events did not come to {name}")
        stage.check(not {*seen} - tokens, f"{name} has seen what is no event")
        stage.check(len(seen) == len({*seen}), f"{name} has seen one event with two ids")
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for each in consumer.seen:
            numbers[each.data["speaker"]].append(each.data["number"])
        unordered = sum(any(b <= a for a, b in pairwise(some)) for some in numbers.values())
        stage.check(not unordered, f"{name} has seen {unordered} speakers out of order")
        stage.check(consumer.replaced, f"no member of {name} was replaced")
        stage.flaws += consumer.flaws
        stage.tell(
            f"{name.partition('-')[0]}: {consumer.again} events again,"
            f" {consumer.members} joins, {consumer.replaced} members replaced"
        )
