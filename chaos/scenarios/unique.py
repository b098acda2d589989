"""Many clients with the same unique keys, while the API's processes die under them."""

import threading
from collections import Counter
from itertools import pairwise
from random import Random
from typing import NamedTuple

from chaos.client import Client, Unanswered
from chaos.effects import END, START
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until

CLIENTS, KEYS = 12, 5
KILLS = 8
BETWEEN = 0.3  # seconds
PAUSE = 0.5  # seconds of a client, at most: more requests only keep the machine busy
LOOK_EVERY = 0.2  # seconds
POLICIES = ("reject", "return", "replace")
ACCEPTED, FOUND, CONFLICT = 202, 200, 409
ENDED_WITHIN = 60.0  # seconds after the last submission
_JOBS = """
SELECT id::text, unique_key, CAST(state AS text), cancel_reason,
       (SELECT count(*) FROM job_event WHERE job_id = job.id AND type = 'created')
FROM job WHERE unique_key = ANY(%s) ORDER BY id
"""
_TWINS = """
SELECT unique_key FROM job WHERE unique_key = ANY(%s) AND finished_at IS NULL
GROUP BY unique_key HAVING count(*) > 1
"""
_OPEN = "SELECT count(*) FROM job WHERE unique_key = ANY(%s) AND finished_at IS NULL"


class Said(NamedTuple):
    """An answer."""

    policy: str
    status: int
    job_id: str | None


@scenario(
    "unique",
    title=f"{CLIENTS} clients submit with the same {KEYS} unique keys,"
    f" {KILLS} × `kill -9` of an api",
    plain="has none",
    seconds=55,
)
def submit_twins(stage: Stage) -> None:
    platform = stage.platform
    keys = [f"only-{stage.random.getrandbits(64):x}" for _ in range(KEYS)]
    said: list[Said] = []
    twins: list[str] = []
    stopping = threading.Event()
    seeds = [stage.random.getrandbits(32) for _ in range(CLIENTS)]

    def submit(seed: int) -> None:
        client, random = stage.client(), Random(seed)
        while not stopping.is_set():
            said.append(_submit(client, random, random.choice(keys)))
            stopping.wait(random.uniform(0, PAUSE))
        client.close()

    def watch() -> None:
        while not stopping.wait(LOOK_EVERY):
            twins.extend(key for (key,) in platform.query(_TWINS, keys))

    threads = [threading.Thread(target=submit, args=[seed], daemon=True) for seed in seeds]
    threads.append(threading.Thread(target=watch, daemon=True))
    for thread in threads:
        thread.start()
    try:
        stage.kill_again_and_again(platform.apis, KILLS, BETWEEN)
        stage.wait(1)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(PATIENCE)
    stage.check(not twins, f"two live jobs of a key: {sorted({*twins})}")
    until(lambda: platform.query(_OPEN, keys) == [(0,)], within=ENDED_WITHIN)
    _judge(stage, keys, said)


def _submit(client: Client, random: Random, key: str) -> Said:
    policy, token = random.choice(POLICIES), f"{random.getrandbits(128):032x}"
    body = {
        "kind": "chaos.work",
        "args": {"token": token, "ms": random.choice([20, 100])},
        "unique": {"key": key, "on_conflict": policy},
        **({"delay": 0.5} if random.random() < 0.3 else {}),  # noqa: PLR2004 - some to be replaced
    }
    try:
        answer = client.ask("POST", "/v1/jobs", body, {"Idempotency-Key": token}, patience=PATIENCE)
    except Unanswered:
        return Said(policy, 0, None)
    return Said(policy, answer.status, answer.body.get("id") or answer.body.get("job_id"))


def _judge(stage: Stage, keys: list[str], said: list[Said]) -> None:
    """What was accepted is there, ended, and ran alone; nothing is there that nobody was told."""
    rows = stage.platform.query(_JOBS, keys)
    counts = Counter((each.policy, each.status) for each in said)
    expected = {
        *((policy, ACCEPTED) for policy in POLICIES),
        *(("reject", CONFLICT), ("return", FOUND), ("replace", CONFLICT)),
    }
    stage.check({*counts} == expected, f"the answers are {dict(counts)}")
    accepted = {each.job_id for each in said if each.status == ACCEPTED}
    stage.check({row[0] for row in rows} == accepted, "what was accepted is not what there is")
    stage.check({row[4] for row in rows} <= {1}, "a job was created twice")
    ends = Counter((row[2], row[3]) for row in rows)
    stage.check({*ends} <= {("succeeded", None), ("cancelled", None)}, f"they ended as {ends}")
    effects = stage.platform.effects.by_job()
    for key in keys:
        ours = [effects.get(row[0], []) for row in rows if row[1] == key]
        spans = sorted(_span(lines) for lines in ours if lines)
        beside = sum(end > start for (_, end), (start, _) in pairwise(spans))
        stage.check(not beside, f"{beside} jobs of a key ran beside another one")
    answers = ", ".join(
        f"{count} × {status} to {policy}" for (policy, status), count in counts.items()
    )
    stage.tell(f"{len(rows)} jobs; {answers}")


def _span(lines: list) -> tuple[float, float]:  # type: ignore[type-arg]
    """From its first start to its last end."""
    start = min(each.at for each in lines if each.word == START)
    return start, max((each.at for each in lines if each.word == END), default=start)
