"""Batches whose jobs end, broken by kills or by nothing, and their callbacks."""

from collections.abc import Iterable
from typing import Any

from chaos.book import Entry
from chaos.effects import END, START
from chaos.platform import PAIR
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage

JOBS = 3000
KILLS = 9
BETWEEN = 0.5  # seconds
CALLED_WITHIN = 40.0  # seconds of the last end: a second, unless what would start it is killed
CHILDREN = 10_000
CALLED_AT_ONCE_WITHIN = 1.0  # seconds, where nothing is broken
MOST_AT_A_TIME = 1000


@scenario(
    "batch-of-3000",
    title=f"a batch of {JOBS:,} jobs, {KILLS} × `kill -9` of a worker, a dispatcher, an API",
    seconds=40,
)
def end_a_batch(stage: Stage) -> None:
    jobs, callbacks = _submit(stage, JOBS, "chaos.work", at_a_time=500)
    platform = stage.platform
    victims = [platform.workers[0], platform.dispatchers[0], platform.apis[0]]
    stage.kill_again_and_again(victims, KILLS, BETWEEN)
    stage.finish(jobs, within=120)
    stage.finish(callbacks)
    _judge(stage, jobs, callbacks, CALLED_WITHIN)


@scenario(
    "fan-out-10000",
    title=f"a batch of {CHILDREN:,} jobs with callbacks, two dispatchers, nothing broken",
    plain="has none",
    seconds=50,
    layout=PAIR,
)
def fan_out(stage: Stage) -> None:
    children, callbacks = _submit(stage, CHILDREN, "chaos.quick", at_a_time=MOST_AT_A_TIME)
    stage.finish(children, within=120)
    stage.finish(callbacks)
    _judge(stage, children, callbacks, CALLED_AT_ONCE_WITHIN)
    effects = stage.platform.effects.by_job()
    for callback in callbacks:
        starts = [each for each in effects[callback.id] if each.word == START]
        stage.check(len(starts) == 1, f"a callback has started {len(starts)} times")


def _submit(
    stage: Stage, count: int, kind: str, *, at_a_time: int
) -> tuple[list[Entry], list[Entry]]:
    """The jobs of a batch that stays open until all are in, and what is called at its end."""
    names = ("on_complete", "on_success")
    callbacks = [stage.book.enter(stage.order(kind, {"ms": 2})) for _ in names]
    jobs = [stage.book.enter(stage.order(kind, {"ms": 2})) for _ in range(count)]
    client = stage.client(timeout=30)
    path = "/v1/jobs/batch"
    more: dict[str, Any] = {
        name: entry.order.body for name, entry in zip(names, callbacks, strict=True)
    }
    for start in range(0, count, at_a_time):
        some = jobs[start : start + at_a_time]
        body = {
            "jobs": [entry.order.body for entry in some],
            "open": start + at_a_time < count,
            **more,
        }
        key = {"Idempotency-Key": some[0].order.key}
        answer = client.ask("POST", path, body, key, patience=PATIENCE).body
        for entry, job in zip(some, answer["jobs"], strict=True):
            entry.ids.append(job["id"])
        for entry, name in zip(callbacks, names, strict=True):
            if not entry.ids:
                entry.ids.append(answer["batch"][name])
        path, more = f"/v1/batches/{answer['batch']['id']}/jobs", {}
    client.close()
    return jobs, callbacks


def _judge(stage: Stage, jobs: Iterable[Entry], callbacks: Iterable[Entry], within: float) -> None:
    """Each callback came after the last job's end, and soon."""
    effects = stage.platform.effects.by_job()
    last = max(each.at for job in jobs for each in effects[job.id] if each.word == END)
    for callback in callbacks:
        starts = [each.at for each in effects[callback.id] if each.word == START]
        stage.check(min(starts) > last, "a callback came before the last job's end")
        stage.measure("from the last end to a callback", min(starts) - last, within)
