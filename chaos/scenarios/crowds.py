"""A crowd of jobs of one key: who else has to wait, and how long."""

from bisect import bisect

import psycopg

from chaos.book import Entry
from chaos.effects import START
from chaos.platform import PAIR
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until

AT_A_TIME = 1000
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
