"""Many jobs at once, with two dispatchers and nothing broken: who has to wait, and how long."""

from bisect import bisect
from typing import Any

import psycopg

from chaos.book import Entry
from chaos.client import Client
from chaos.effects import END, START
from chaos.platform import Layout
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until

PAIR = Layout(io_workers=0, dispatchers=2)  # of their own: a crowd is left when they are over
CHILDREN, AT_A_TIME = 10_000, 1000
CALLED_WITHIN = 1.0  # seconds from the last child's end to the callback's start
CROWD = 100_000  # queued jobs of one key
ACCEPTED = 202
WINDOW = 1000  # bells: two seconds' starts, and so many at most; half a second passes besides
OTHERS = 20  # jobs of other keys, one after the other
#: They have waited for so long that their bells would be loud.
_AGE = """
UPDATE job SET queued_at = queued_at - interval '10 min' WHERE concurrency_key = %s AND attempt = 0
"""
_OPEN = "SELECT count(*) FROM job WHERE concurrency_key = %s AND finished_at IS NULL"
_STARTS = """
SELECT count(*) FROM job WHERE concurrency_key = %s AND attempt > 0
"""


@scenario(
    "fan-out-10000",
    title=f"a batch of {CHILDREN:,} jobs with callbacks, two dispatchers, nothing broken",
    plain="has none",
    seconds=50,
    layout=PAIR,
)
def fan_out(stage: Stage) -> None:
    platform = stage.platform
    client = stage.client(timeout=30)
    children, callbacks = _submit(stage, client)
    stage.finish(children, within=120)
    stage.finish(callbacks)
    effects = platform.effects.by_job()
    last = max(each.at for child in children for each in effects[child.id] if each.word == END)
    for callback in callbacks:
        starts = [each.at for each in effects[callback.id] if each.word == START]
        stage.check(len(starts) == 1, f"a callback has started {len(starts)} times")
        stage.check(min(starts) > last, "a callback came before the last child's end")
        stage.measure("from the last child's end to a callback", min(starts) - last, CALLED_WITHIN)
    client.close()


def _submit(stage: Stage, client: Client) -> tuple[list[Entry], list[Entry]]:
    """The children of an open batch, and what is called at its end."""
    names = ("on_complete", "on_success")
    callbacks = [stage.book.enter(stage.order("chaos.quick", {"ms": 1})) for _ in names]
    children = [stage.book.enter(stage.order("chaos.quick", {"ms": 1})) for _ in range(CHILDREN)]
    path, more = "/v1/jobs/batch", _bodies(names, callbacks)
    for start in range(0, CHILDREN, AT_A_TIME):
        some = children[start : start + AT_A_TIME]
        body = {
            "jobs": [entry.order.body for entry in some],
            "open": start + AT_A_TIME < CHILDREN,
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
    return children, callbacks


def _bodies(names: tuple[str, ...], callbacks: list[Entry]) -> dict[str, Any]:
    return {name: entry.order.body for name, entry in zip(names, callbacks, strict=True)}


@scenario(
    "crowd-of-100000",
    title=f"{CROWD:,} queued jobs of one key, two dispatchers, and jobs of other keys",
    plain="has none",
    seconds=75,
    layout=PAIR,
)
def crowd_one_key(stage: Stage) -> None:
    platform = stage.platform
    key = f"crowd-{stage.random.getrandbits(64):x}"
    _gather(stage, key)
    with psycopg.connect(platform.postgres.url) as connection:
        connection.execute(_AGE, [key])
    until(lambda: platform.query(_STARTS, key)[0][0] > AT_A_TIME, within=PATIENCE)
    others = [_submit_another(stage, number) for number in range(OTHERS)]
    left = platform.query(_OPEN, key)[0][0]
    stage.check(left > CROWD / 3, f"only {left} of the crowd were left in the end")
    _judge_turns(stage, others)
    stage.tell(f"{left:,} of the crowd still there")


def _gather(stage: Stage, key: str) -> None:
    client = stage.client(timeout=60)
    one = {
        "kind": "chaos.quick",
        "args": {"token": "of the crowd", "ms": 1},
        "concurrency": {"key": key},
    }
    for number in range(CROWD // AT_A_TIME):
        name = {"Idempotency-Key": f"{key}-{number}"}
        body = {"jobs": [one] * AT_A_TIME}
        answer = client.ask("POST", "/v1/jobs/batch", body, name, patience=PATIENCE)
        stage.check(answer.status == ACCEPTED, f"no jobs: {answer.status}")
    client.close()


def _submit_another(stage: Stage, number: int) -> Entry:
    """A job of a key of its own, which has started."""
    key = f"alone-{number}-{stage.random.getrandbits(64):x}"
    entry = stage.submit("chaos.quick", ms=1, options={"concurrency": {"key": key}})
    stage.await_start(entry)
    return entry


def _judge_turns(stage: Stage, others: list[Entry]) -> None:
    """No more of the crowd started before another key's job than bells may hang: a window."""
    starts = sorted(each.at for each in stage.platform.effects.read() if each.word == START)
    peak = max(bisect(starts, at + 1) - index for index, at in enumerate(starts))
    most = min(WINDOW, 2 * peak) + peak // 2
    waits, passed = [], []
    for entry in others:
        begun = stage.await_start(entry).at
        answered = entry.answered_at or begun
        waits.append(max(0.0, begun - answered))
        passed.append(max(0, bisect(starts, begun) - bisect(starts, answered) - 1))
    stage.measure("longest wait of another key's job, from 202 to its start", max(waits))
    stage.check(max(passed) <= most, f"{max(passed)} of the crowd went before: more than {most}")
    stage.tell(
        f"at most {max(passed)} of the crowd went before, of a window of {most};"
        f" median wait {sorted(waits)[OTHERS // 2]:.2f} s"
    )
