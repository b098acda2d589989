"""A batch whose jobs end while everything around it dies, and its callbacks."""

from typing import Any

from chaos.book import Entry
from chaos.effects import END, START
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage

JOBS, AT_A_TIME = 3000, 500
KILLS = 9
BETWEEN = 0.5  # seconds
CALLED_WITHIN = 40.0  # seconds of the last end: a second, unless what would start it is killed


@scenario(
    "batch-of-3000",
    title=f"a batch of {JOBS:,} jobs, {KILLS} × `kill -9` of a worker, a dispatcher, an API",
    seconds=40,
)
def end_a_batch(stage: Stage) -> None:
    jobs, callbacks = _submit(stage)
    platform = stage.platform
    victims = [platform.workers[0], platform.dispatchers[0], platform.apis[0]]
    stage.kill_again_and_again(victims, KILLS, BETWEEN)
    stage.finish(jobs, within=120)
    stage.finish(callbacks)
    effects = platform.effects.by_job()
    last = max(each.at for job in jobs for each in effects[job.id] if each.word == END)
    for callback in callbacks:
        starts = [each.at for each in effects[callback.id] if each.word == START]
        stage.check(min(starts) > last, "a callback came before the last job's end")
        stage.measure("from the last end to a callback", min(starts) - last, CALLED_WITHIN)


def _submit(stage: Stage) -> tuple[list[Entry], list[Entry]]:
    orders = [stage.order("chaos.work", {"ms": 2}) for _ in range(JOBS)]
    callbacks = [stage.book.enter(stage.order("chaos.work", {"ms": 2})) for _ in range(2)]
    jobs = [stage.book.enter(order) for order in orders]
    names = ("on_complete", "on_success")
    client = stage.client(timeout=30)
    path = "/v1/jobs/batch"
    more: dict[str, Any] = {
        name: entry.order.body for name, entry in zip(names, callbacks, strict=True)
    }
    for start in range(0, JOBS, AT_A_TIME):
        some = jobs[start : start + AT_A_TIME]
        body = {
            "jobs": [entry.order.body for entry in some],
            "open": start + AT_A_TIME < JOBS,
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
