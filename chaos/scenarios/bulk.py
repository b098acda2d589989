"""Operations over many jobs, whose dispatchers die: each job has its turn once."""

from typing import Any

from chaos.client import Client
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until

JOBS, AT_A_TIME = 5000, 1000
KILLS = 10
BETWEEN = 0.3  # seconds
SINGLES = 100  # jobs that somebody else cancels meanwhile
RATE = 300  # jobs a second: the operation lasts as long as the kills
DONE_WITHIN = 90.0  # seconds
ACCEPTED, OK, DIFFERS = 202, 200, 409
_EVENTS = """
SELECT count(*), count(DISTINCT job_id) FROM job_event
JOIN job ON job.id = job_id
WHERE labels ->> 'bulk' = %s AND type = %s AND (%s = '' OR data ->> 'reason' = %s)
"""
_STATES = """
SELECT CAST(state AS text), count(*) FROM job WHERE labels ->> 'bulk' = %s GROUP BY 1 ORDER BY 1
"""
_PARTS = "SELECT count(*) FROM bulk_part"


@scenario(
    "bulk",
    title=f"an operation over {JOBS:,} jobs, {KILLS} × `kill -9` of one of two dispatchers;"
    " another one is stopped",
    plain="has none",
    seconds=50,
)
def change_many(stage: Stage) -> None:
    platform, client = stage.platform, stage.client(timeout=30)
    second = platform.add_dispatcher()
    platform.await_ready(second)
    label = f"{stage.random.getrandbits(64):x}"
    ids = _submit(stage, client, label)
    _stop_one(stage, client, label)
    operation = _start(stage, client, "cancel", label, reason=label)
    load = stage.load(rate=10, seconds=60)
    for number in range(KILLS):
        _cancel_some(stage, client, ids[-SINGLES:], number)
        stage.kill_again_and_again([platform.dispatchers[number % 2]], 1, BETWEEN)
    load.stop()
    load.join()
    until(lambda: _read(client, operation)["state"] == "done", within=DONE_WITHIN, every=0.5)
    _judge(stage, _read(client, operation), label)
    client.close()
    platform.drop(second)


def _submit(stage: Stage, client: Client, label: str) -> list[str]:
    """The ids of jobs that run much later."""
    ids: list[str] = []
    for start in range(0, JOBS, AT_A_TIME):
        one = {
            "kind": "chaos.work",
            "args": {"token": "of many", "ms": 1},
            "delay": 86400,
            "labels": {"bulk": label},
        }
        key = {"Idempotency-Key": f"{label}-{start}"}
        answer = client.ask(
            "POST", "/v1/jobs/batch", {"jobs": [one] * AT_A_TIME}, key, patience=PATIENCE
        )
        stage.check(answer.status == ACCEPTED, f"no jobs: {answer.status}")
        ids += [job["id"] for job in answer.body["jobs"]]
    return ids


def _start(stage: Stage, client: Client, op: str, label: str, **more: Any) -> str:
    """The operation that means all of them runs; its path."""
    wanted = {"op": op, "filter": {"label": {"bulk": label}}}
    preview = client.ask("POST", "/v1/bulk/preview", wanted, patience=PATIENCE).body
    stage.check(preview["count"] == JOBS, f"the preview counts {preview['count']}")
    body = {**wanted, "rate": RATE, **more}
    wrong = client.ask("POST", "/v1/bulk", {**body, "expected_count": JOBS - 1}, patience=PATIENCE)
    stage.check(wrong.status == DIFFERS, f"a wrong count was answered {wrong.status}")
    answer = client.ask("POST", "/v1/bulk", {**body, "expected_count": JOBS}, patience=PATIENCE)
    stage.check(answer.status == ACCEPTED, f"no operation: {answer}")
    return str(answer.body["links"]["self"])


def _read(client: Client, operation: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(operation)
    return found


def _stop_one(stage: Stage, client: Client, label: str) -> None:
    """An operation is stopped on its way, between two deaths."""
    operation = _start(stage, client, "reprioritise", label, priority=7)
    until(lambda: _read(client, operation)["done"] > 0, within=DONE_WITHIN)
    for dispatcher in stage.platform.dispatchers:
        stage.kill(dispatcher)
    answer = client.ask("POST", f"{operation}/stop", patience=PATIENCE)
    stage.check(answer.status == OK, f"it was not stopped: {answer}")
    for dispatcher in stage.platform.dispatchers:
        stage.platform.await_ready(dispatcher)
    stage.wait(1.5)  # more than a look at what is running
    stopped = _read(client, operation)
    counts = [stopped[name] for name in ("done", "skipped", "failed")]
    stage.check(stopped["state"] == "stopped", f"it is {stopped['state']}")
    stage.check(0 < counts[0] < JOBS and not any(counts[1:]), f"stopped at {counts}")
    stage.check(counts[0] == answer.body["done"], "it went on after it was stopped")
    changed = stage.platform.query(_EVENTS, label, "reprioritised", "", "")[0]
    stage.check(changed == (counts[0], counts[0]), f"{changed} were changed, {counts[0]} counted")
    stage.tell(f"stopped after {counts[0]} of {JOBS}")


def _cancel_some(stage: Stage, client: Client, ids: list[str], number: int) -> None:
    """Some of the last ones are cancelled by somebody else, and so skipped."""
    share = len(ids) // KILLS
    for job_id in ids[number * share : (number + 1) * share]:
        answer = client.ask(
            "POST", f"/v1/jobs/{job_id}/cancel", {"reason": "single"}, patience=PATIENCE
        )
        stage.check(answer.status in {ACCEPTED, OK}, f"a cancel was answered {answer}")


def _judge(stage: Stage, operation: dict[str, Any], label: str) -> None:
    """Its counts are what happened."""
    counts = {name: operation[name] for name in ("total", "done", "skipped", "failed")}
    stage.check(counts["total"] == counts["done"] + counts["skipped"] == JOBS, f"counted {counts}")
    query = stage.platform.query
    stage.check(query(_STATES, label) == [("cancelled", JOBS)], f"{query(_STATES, label)}")
    all_ = query(_EVENTS, label, "cancelled", "", "")[0]
    stage.check(all_ == (JOBS, JOBS), f"{all_[0]} cancels of {all_[1]} jobs")
    by_it = query(_EVENTS, label, "cancelled", label, label)[0]
    stage.check(by_it[0] == counts["done"], f"{by_it[0]} by the operation, {counts} counted")
    single = query(_EVENTS, label, "cancelled", "single", "single")[0]
    stage.check(single[0] == counts["skipped"], f"{single[0]} by others, {counts} counted")
    stage.check(query(_PARTS) == [(0,)], "ids are left behind")
    stage.tell(f"{counts['done']} done, {counts['skipped']} skipped")
