"""An every-second schedule, while the dispatchers that fire it die."""

from datetime import timedelta
from typing import Any

from chaos.client import Client
from chaos.scenario import scenario
from chaos.stage import PATIENCE, Stage
from chaos.waiting import until

KILLS = 20
BETWEEN = 0.7  # seconds: some die between two ticks, some at one
SECOND = timedelta(seconds=1)
ENDED_WITHIN = 60.0  # seconds after the last tick
_TICKS = """
SELECT tick.tick_at, tick.outcome, tick.decided_at - tick.tick_at, job.state,
       (SELECT count(*) FROM job_event WHERE job_id = tick.job_id AND type = 'created')
FROM schedule_tick AS tick LEFT JOIN job ON job.id = tick.job_id
WHERE tick.schedule_id = %s ORDER BY tick.tick_at
"""
_JOBS = "SELECT count(*) FROM job WHERE schedule_id = %s"
_OPEN = "SELECT count(*) FROM job WHERE schedule_id = %s AND finished_at IS NULL"


@scenario(
    "schedules",
    title=f"`kill -9` of one of two dispatchers, {KILLS} times, under an every-second schedule",
    seconds=60,
)
def kill_whoever_fires(stage: Stage) -> None:
    platform = stage.platform
    second = platform.add_dispatcher()
    platform.await_ready(second)
    client = stage.client()
    schedule_id = _make(stage, client)
    load = stage.load(rate=20, seconds=60)
    stage.kill_again_and_again(platform.dispatchers, KILLS, BETWEEN)
    stage.wait(3)
    client.ask("POST", f"/v1/schedules/{schedule_id}/pause", patience=PATIENCE)
    load.stop()
    load.join()
    until(lambda: platform.query(_OPEN, schedule_id) == [(0,)], within=ENDED_WITHIN)
    _judge(stage, schedule_id)
    client.close()
    platform.drop(second)


def _make(stage: Stage, client: Client) -> str:
    body = {
        "name": f"chaos {stage.random.getrandbits(64):016x}",
        "kind": "chaos.work",
        "args": {"token": "of the schedule", "ms": 5},
        "every": 1,
        "misfire": "all",
        "misfire_max": 1000,
    }
    answer = client.ask("POST", "/v1/schedules", body, patience=PATIENCE)
    made: dict[str, Any] = answer.body
    return str(made["id"])


def _judge(stage: Stage, schedule_id: str) -> None:
    """Each second has its tick, each tick its job, and each job one `created` and its end."""
    rows = stage.platform.query(_TICKS, schedule_id)
    if not rows:
        stage.flaws.append("the schedule has not ticked")
        return
    times = [row[0] for row in rows]
    expected = [times[0] + number * SECOND for number in range(len(times))]
    stage.check(times == expected, "a tick is missing, or there twice")
    stage.check({row[1] for row in rows} == {"fired"}, "a tick was skipped")
    stage.check({row[3] for row in rows} == {"succeeded"}, "a tick has no job that succeeded")
    stage.check({row[4] for row in rows} == {1}, "a job was created twice")
    stage.check(
        stage.platform.query(_JOBS, schedule_id) == [(len(rows),)], "there are more jobs than ticks"
    )
    stage.measure("latest tick", max(row[2] for row in rows).total_seconds())
    stage.tell(f"{len(rows)} ticks")
