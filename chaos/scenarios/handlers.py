"""Jobs that do harm: they die, they do not end."""

from typing import Any

from chaos.scenario import scenario
from chaos.stage import Stage

CRASHES = 3  # the third one ends a job


@scenario(
    "poison",
    title="4 jobs that kill their process whenever they run: 3 crashes end each",
    plain="4 × FAILURE; hardened: run 154–259 times in 45 s, and for ever",
    seconds=20,
)
def poison(stage: Stage) -> None:
    load = stage.load(rate=20, seconds=6)
    expected: dict[str, Any] = {"state": "failed", "cause": "crashed", "starts": CRASHES}
    jobs = [stage.submit("chaos.poison", ms=50, **expected) for _ in range(4)]
    load.join()
    stage.finish(jobs)
    client = stage.client()
    for job in jobs:
        told = client.get(f"/v1/jobs/{job.id}/attempts")["items"]
        story = [(each["outcome"], each["cause"]) for each in told]
        stage.check(story == [("crashed", "crashed")] * CRASHES, f"{job.id} tells {story}")
    client.close()


@scenario(
    "long-jobs",
    title="6 jobs longer than their timeout, and 8 longer than the lease",
    plain="longer than the visibility timeout: 8 of 8 run twice (hardened)",
    seconds=30,
)
def run_too_long(stage: Stage) -> None:
    platform = stage.platform
    worker = platform.add_worker("prefork", 8, queue="long")
    platform.await_ready(worker)
    expected: dict[str, Any] = {"state": "failed", "cause": "timeout", "starts": 2}
    jobs = [stage.submit("chaos.overrun", ms=20_000, **expected) for _ in range(6)]
    length = 1500 * stage.lease  # ms
    jobs += [stage.submit("chaos.work", ms=length, options={"queue": "long"}) for _ in range(8)]
    stage.finish(jobs)
    platform.drop(worker)
