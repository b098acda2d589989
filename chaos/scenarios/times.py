"""Jobs that wait for a time: the time is the database's, and no worker keeps them."""

import time

from chaos.clock import AHEAD
from chaos.effects import CLOCK
from chaos.scenario import scenario
from chaos.scenarios.workers import LIMIT
from chaos.stage import Stage

SCHEDULED = 200
DELAY = 12.0  # seconds
STARTED = 0.4  # seconds after which some of them run


@scenario(
    "scheduled-200",
    title="200 scheduled jobs, and all workers killed while they wait and when they start",
    plain="200 of 200 stuck for an hour; hardened: 200 of 200 run twice",
    seconds=40,
    limit=LIMIT,
)
def kill_while_jobs_wait(stage: Stage) -> None:
    begun = time.monotonic()
    orders = [stage.order("chaos.work", {"ms": 30}, {"delay": DELAY}) for _ in range(SCHEDULED)]
    stage.load(rate=100, seconds=2, orders=orders).join()
    for worker in stage.platform.workers:
        stage.kill(worker)
    stage.wait(begun + DELAY + STARTED - time.monotonic())
    stage.kill(stage.platform.workers[0])
    stage.finish(stage.book.accepted)
    _check_times(stage)


@scenario(
    "clock-ahead",
    title="one worker's clock is an hour ahead",
    plain="",
    seconds=35,
)
def run_with_a_clock_ahead(stage: Stage) -> None:
    platform = stage.platform
    start = ("-m", "chaos.clock")
    ahead = [platform.add_worker("prefork", 2, queue="ahead", start=start)]
    ahead.append(platform.add_worker("threads", 4, queue="io.ahead", start=start))
    for worker in ahead:
        platform.await_ready(worker)
    load = stage.load(rate=20, seconds=15)
    for queue, kind in (
        ("ahead", "chaos.work"),
        ("ahead", "chaos.steps"),
        ("io.ahead", "chaos.io"),
    ):
        plain = [stage.order(kind, {"ms": 20, "steps": 3}, {"queue": queue}) for _ in range(20)]
        later = {"queue": queue, "delay": 3}
        plain += [stage.order(kind, {"ms": 20, "steps": 3}, later) for _ in range(20)]
        stage.load(rate=20, seconds=2, orders=plain)
    retrying = [stage.order("chaos.flaky", {}, {"queue": "ahead"}, starts=2) for _ in range(20)]
    stage.load(rate=20, seconds=1, orders=retrying)
    long = [
        stage.submit(kind, ms=1500 * stage.lease, options={"queue": queue})
        for queue, kind in (("ahead", "chaos.work"), ("io.ahead", "chaos.io"))
    ]
    load.join()
    stage.finish([*stage.book.accepted, *long])
    _check_times(stage)
    _check_clock(stage)
    for worker in ahead:
        platform.drop(worker)


def _check_clock(stage: Stage) -> None:
    """The clock was really ahead."""
    lines = (line for job in stage.platform.effects.by_job().values() for line in job)
    told = [float(line.name) - time.time() for line in lines if line.word == CLOCK]
    is_ahead = told and all(AHEAD / 2 < seconds <= AHEAD for seconds in told)
    stage.check(is_ahead, f"the worker's clock was not ahead: {told}")


def _check_times(stage: Stage) -> None:
    """No job began before its time; the longest wait after it is measured."""
    waits = {
        entry.id: start.at - entry.sent_at - entry.order.options["delay"]
        for entry in stage.book.accepted
        if "delay" in entry.order.options and (start := stage.started(entry))
    }
    early = [job for job, wait in waits.items() if wait < 0]
    stage.check(not early, f"started before their time: {early}")
    stage.measure("longest wait after a job's time", max(waits.values(), default=0.0))
