"""Processes that die in the middle of a list of quick attempts (docs/decisions/0011-lists.md).

They take these in handfuls (0018-handfuls.md): of a dead pool process its worker knows which had
begun, of a dead worker nobody does.
"""

from collections import Counter
from statistics import mean
from typing import NamedTuple

import redis

from chaos.book import Entry
from chaos.keeper import Keeper
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until
from jobs.attempts import WORKER_LOST
from jobs.broker import lists_of, read_bell
from worker.handfuls import MOST

CHILDREN, WORKERS = 8, 2  # that are killed
BETWEEN = 0.4  # seconds
AT_A_TIME = 500
BACKLOG = 1000  # jobs, at least, while something is killed: bells are put together
ACCEPTED = 202
LONG_ENOUGH = 1.2  # attempts a bell, on average: what is rung again comes one by one
QUEUE = "default"
RUNG_AGAIN_WITHIN = 30.0  # seconds: 3 until a bell counts as lost, and what stands before it
_OPEN = "SELECT count(*) FROM job WHERE kind = 'chaos.quick' AND finished_at IS NULL"
_RUNG = """
SELECT id::text FROM job WHERE kind = 'chaos.quick' AND state = 'queued' AND rung_at IS NOT NULL
"""
_CRASHES = """
SELECT job_attempt.error ->> 'type', count(*) FROM job_attempt JOIN job ON job.id = job_id
WHERE kind = 'chaos.quick' AND outcome = 'crashed' GROUP BY 1
"""


class Struck(NamedTuple):
    """What was rung and had not begun when a process died."""

    at: float
    rung: list[str]
    lengths: list[int]  #: attempts of each bell that hung just before


@scenario(
    "lists-killed",
    title=f"{CHILDREN} × `kill -9` of a pool process in the middle of a list of quick jobs,"
    f" and {WORKERS} × of a whole worker",
    plain="has none",
    seconds=45,
)
def kill_within_lists(stage: Stage) -> None:
    platform = stage.platform
    _warm_up(stage)
    strikes = [_kill_a_child(stage) for _ in range(CHILDREN)]
    strikes += [_kill_a_worker(stage, platform.workers[n % 2]) for n in range(WORKERS)]
    stage.finish(stage.book.accepted)
    length = mean([each for strike in strikes for each in strike.lengths] or [0])
    stage.check(length >= LONG_ENOUGH, f"a bell was for {length:.1f} attempts: there were no lists")
    crashes = Counter(dict(platform.query(_CRASHES)))
    alone = crashes.total() - crashes[WORKER_LOST]
    stage.check(alone <= CHILDREN, f"{dict(crashes)}: {CHILDREN} died, with one attempt each")
    most = WORKERS * platform.layout.slots * MOST
    stage.check(crashes[WORKER_LOST] <= most, f"{dict(crashes)}: {most} could be claimed there")
    stage.measure(
        "from a death until all that was rung then had started",
        max(_last_start(stage, strike) - strike.at for strike in strikes),
        RUNG_AGAIN_WITHIN,
    )
    stage.tell(f"{length:.1f} attempts a bell; crashes: {dict(crashes)}")


def _warm_up(stage: Stage) -> None:
    """The dispatcher knows how quick the kind is."""
    _fill(stage)
    until(lambda: stage.platform.query(_OPEN) == [(0,)], within=PATIENCE, every=0.2)


def _kill_a_child(stage: Stage) -> Struck:
    _fill(stage)
    stage.wait(BETWEEN)
    pids = {pid for worker in stage.platform.workers for pid in worker.children}

    def busy() -> list[int]:
        return [each.pid for each in stage.platform.effects.running() if each.pid in pids]

    lengths = _lengths(stage)
    fault = stage.kill_child(stage.random.choice(until(busy, within=30, every=0.005)))
    return Struck(fault.at, _rung(stage), lengths)


def _kill_a_worker(stage: Stage, worker: Keeper) -> Struck:
    stage.platform.await_ready(worker)
    _fill(stage)
    stage.wait(BETWEEN)
    lengths = _lengths(stage)
    fault = stage.kill(worker)
    return Struck(fault.at, _rung(stage), lengths)


def _fill(stage: Stage) -> None:
    """More jobs wait than a few lists have."""
    client = stage.client(timeout=30)
    while stage.platform.query(_OPEN)[0][0] < BACKLOG:
        orders = [stage.order("chaos.quick", {"ms": 1}) for _ in range(AT_A_TIME)]
        entries: list[Entry] = [stage.book.enter(order) for order in orders]
        body = {"jobs": [order.body for order in orders]}
        key = {"Idempotency-Key": orders[0].key}
        answer = client.ask("POST", "/v1/jobs/batch", body, key, patience=PATIENCE)
        stage.check(answer.status == ACCEPTED, f"no jobs: {answer.status}")
        for entry, job in zip(entries, answer.body["jobs"], strict=True):
            entry.ids.append(job["id"])
    client.close()


def _rung(stage: Stage) -> list[str]:
    return [job_id for (job_id,) in stage.platform.query(_RUNG)]


def _last_start(stage: Stage, strike: Struck) -> float:
    effects = stage.platform.effects.by_job()
    return max((effects[each][0].at for each in strike.rung if effects[each]), default=strike.at)


def _lengths(stage: Stage) -> list[int]:
    with redis.Redis.from_url(stage.platform.valkey.url) as client:
        messages = [each for key in lists_of(QUEUE) for each in client.lrange(key, 0, -1)]
    bells = [bell for message in messages if (bell := read_bell(message)) is not None]
    return [len(bell.attempts) for bell in bells]
