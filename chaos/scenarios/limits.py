"""Limits that are never exceeded, whoever counts, works or dies; and slots that nobody keeps."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from chaos.book import Order
from chaos.client import Client
from chaos.effects import END, START
from chaos.keeper import Keeper
from chaos.scenario import scenario
from chaos.stage import LONGEST, PATIENCE, Stage

AT_A_TIME = 3  # attempts of the key, over both pools and queues
STEPS_AT_A_TIME = 1  # attempts of a kind
STARTS, BURST = 20, 2  # a second, of the other key
PERIOD = timedelta(seconds=1)
RATE = 8.0  # jobs a second, in equal parts of two pools, the slow key and the kind
ROUNDS = 3
BETWEEN = 0.7  # seconds
OK, CREATED, NO_CONTENT = 200, 201, 204
_SPANS = """
SELECT job_attempt.started_at, job_attempt.finished_at FROM job_attempt
JOIN job ON job.id = job_id
WHERE (job.concurrency_key = %s OR job.kind = %s) AND job.created_at >= %s
"""


class Keys(NamedTuple):
    """What this run limits."""

    few: str  #: at a time
    slow: str  #: in a time


@scenario(
    "limits",
    title="a key's limit, a kind's, and a rate, with two dispatchers: workers, dispatchers and"
    f" children killed, {4 * ROUNDS} times in all",
    plain="has none",
    seconds=30,
)
def kill_those_who_count(stage: Stage) -> None:
    platform, client = stage.platform, stage.client()
    second = platform.add_dispatcher()
    platform.await_ready(second)
    begun = platform.query("SELECT clock_timestamp()")[0][0]
    keys = Keys(f"few-{stage.random.getrandbits(64):x}", f"slow-{stage.random.getrandbits(64):x}")
    limits = _set_limits(stage, client, keys)
    load = stage.load(rate=RATE, seconds=LONGEST, orders=_orders(stage, keys))
    for number in range(ROUNDS):
        _kill_a_child(stage)
        for victim in _victims(stage, number):
            platform.await_ready(victim)
            stage.wait(BETWEEN)
            stage.kill(victim)
    load.stop()
    load.join()
    load_ended = time.monotonic()
    stage.finish(stage.book.accepted, within=60)
    stage.measure("from the last submission to the last end", time.monotonic() - load_ended, 45)
    _judge(stage, keys, begun)
    _forget_limits(stage, client, limits)
    client.close()
    platform.drop(second)


def _victims(stage: Stage, number: int) -> list[Keeper]:
    platform = stage.platform
    dispatchers, workers = platform.dispatchers, platform.workers
    return [
        dispatchers[number % len(dispatchers)],
        workers[number % len(workers)],
        platform.io_workers[0] if number % 2 else dispatchers[(number + 1) % len(dispatchers)],
    ]


def _kill_a_child(stage: Stage) -> None:
    """One that runs something, as far as anybody knows."""
    children = {pid for worker in stage.platform.workers for pid in worker.children}
    busy = [each.pid for each in stage.platform.effects.running() if each.pid in children]
    if busy:
        stage.kill_child(stage.random.choice(busy))


def _orders(stage: Stage, keys: Keys) -> list[Order]:
    """More than the limits let through, so that there is always one that waits."""
    orders = []
    for number in range(round(RATE * LONGEST)):
        ms = stage.random.choice([60, 120, 300])
        few = {"concurrency": {"key": keys.few, "limit": AT_A_TIME}}
        slow = {"concurrency": {"key": keys.slow}}
        orders.append(
            (
                stage.order("chaos.work", {"ms": ms}, few),
                stage.order("chaos.io", {"ms": ms}, few),
                stage.order("chaos.io", {"ms": 20}, slow),
                stage.order("chaos.steps", {"ms": 20, "steps": 2}),
            )[number % 4]
        )
    return orders


def _set_limits(stage: Stage, client: Client, keys: Keys) -> Mapping[str, dict[str, Any]]:
    """By their paths."""
    rate = {"limit": STARTS, "period": PERIOD.total_seconds(), "burst": BURST}
    limits: dict[str, dict[str, Any]] = {
        f"/v1/limits/key:{keys.few}": {"concurrency": AT_A_TIME},
        f"/v1/limits/key:{keys.slow}": {"rate": rate},
        "/v1/limits/kind:chaos.steps": {"concurrency": STEPS_AT_A_TIME},
    }
    for path, body in limits.items():
        answer = client.ask("PUT", path, body, patience=PATIENCE)
        stage.check(answer.status in {OK, CREATED}, f"no limit: {answer}")
    return limits


def _forget_limits(stage: Stage, client: Client, limits: Iterable[str]) -> None:
    """Each is as free as before, and gone."""
    for path in limits:
        stands = client.get(path)
        stage.check(not stands["running"] and not stands["rung"], f"a slot is held: {stands}")
        answer = client.ask("DELETE", path, patience=PATIENCE)
        stage.check(answer.status == NO_CONTENT, f"the limit stays: {answer}")


def _judge(stage: Stage, keys: Keys, begun: datetime) -> None:
    """By what happened, and by what the attempts' rows say of it."""
    bodies = {entry.id: entry.order.body for entry in stage.book.accepted}
    few = {each for each, body in bodies.items() if _key(body) == keys.few}
    steps = {each for each, body in bodies.items() if body["kind"] == "chaos.steps"}
    rows = {
        name: stage.platform.query(_SPANS, *which, begun)
        for name, which in {
            "few": (keys.few, ""),
            "slow": (keys.slow, ""),
            "steps": ("", "chaos.steps"),
        }.items()
    }
    for words, spans, limit in (
        ("handlers of the key", _happened(stage, few), AT_A_TIME),
        ("attempts of the key", rows["few"], AT_A_TIME),
        ("handlers of the kind", _happened(stage, steps), STEPS_AT_A_TIME),
        ("attempts of the kind", rows["steps"], STEPS_AT_A_TIME),
    ):
        most = _most_at_once(spans)
        stage.check(most <= limit, f"{most} {words} ran at a time, not {limit} at most")
        stage.check(most == limit, f"never more than {most} {words} ran: nothing was limited")
    most = _most_in_a_period([started for started, _ in rows["slow"]])
    allowed = STARTS + 2 * BURST
    stage.check(most <= allowed, f"{most} starts in a second, not {allowed} at most")
    sizes = ", ".join(f"{len(found)} {name}" for name, found in rows.items())
    stage.tell(f"attempts: {sizes}; at most {most} starts in a second")


def _key(body: Mapping[str, Any]) -> str | None:
    key: str | None = body.get("concurrency", {}).get("key")
    return key


def _happened(stage: Stage, ids: Iterable[str]) -> list[tuple[float, float]]:
    """From each start to its end, or to the death of its process."""
    effects = stage.platform.effects.by_job()
    deaths = {pid: fault.at for fault in stage.faults.items for pid in fault.pids}
    spans = []
    for job_id in ids:
        ends = {each.attempt: each.at for each in effects[job_id] if each.word == END}
        spans += [
            (each.at, ends.get(each.attempt) or deaths.get(each.pid, each.at))
            for each in effects[job_id]
            if each.word == START
        ]
    return spans


def _most_at_once(spans: Sequence[tuple[Any, Any]]) -> int:
    """How many of the spans share an instant. One that ends when another begins does not."""
    steps = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def _most_in_a_period(starts: Sequence[datetime]) -> int:
    ordered = sorted(starts)
    return max(
        (
            sum(start <= other < start + PERIOD for other in ordered)
            for start, _ in pairwise(ordered)
        ),
        default=0,
    )
