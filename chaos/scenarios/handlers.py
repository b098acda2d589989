"""Jobs that do harm: they die, they take too much, they do not end."""

from typing import Any

from chaos.book import Entry
from chaos.scenario import scenario
from chaos.stage import Stage

CRASHES = 3  # the third one ends a job


@scenario(
    "poison",
    title="4 jobs that kill their process whenever they run: 3 crashes end each",
    plain="4 × FAILURE; hardened: run 154–259 times in 45 s, and for ever",
    seconds=10,
)
def poison(stage: Stage) -> None:
    load = stage.load(rate=20, seconds=6)
    expected: dict[str, Any] = {"state": "failed", "cause": "crashed", "starts": CRASHES}
    jobs = [stage.submit("chaos.poison", ms=50, **expected) for _ in range(4)]
    load.join()
    stage.finish(jobs)
    _expect_stories(stage, jobs, [("crashed", "crashed")] * CRASHES)


@scenario(
    "out-of-memory",
    title="10 jobs that once take more memory than they may, and 4 that always do",
    plain="10 of 10 lost; hardened: none lost, but the 4 run for ever",
    seconds=10,
)
def take_too_much_memory(stage: Stage) -> None:
    load = stage.load(rate=10, seconds=6)
    jobs = [stage.submit("chaos.hog", times=1, starts=2) for _ in range(10)]
    expected: dict[str, Any] = {"state": "failed", "cause": "memory", "starts": CRASHES}
    always = [stage.submit("chaos.hog", times=CRASHES, **expected) for _ in range(4)]
    load.join()
    stage.finish([*jobs, *always])
    _expect_stories(stage, jobs, [("crashed", "memory"), ("succeeded", None)])
    _expect_stories(stage, always, [("crashed", "memory")] * CRASHES)


@scenario(
    "long-jobs",
    title="6 jobs longer than their timeout, and 8 longer than the lease",
    plain="longer than the visibility timeout: 8 of 8 run twice (hardened)",
    seconds=20,
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


def _expect_stories(stage: Stage, jobs: list[Entry], story: list[tuple[str, str | None]]) -> None:
    """The attempts of each job tell this: outcomes and causes."""
    client = stage.client()
    for job in jobs:
        told = client.get(f"/v1/jobs/{job.id}/attempts")["items"]
        found = [(each["outcome"], each["cause"]) for each in told]
        stage.check(found == story, f"the attempts of {job.id} tell {found}, not {story}")
    client.close()
