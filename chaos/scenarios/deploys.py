"""Deploys: SIGTERM, a soft limit in which attempts may end, and another worker that takes over."""

import time

from chaos.effects import Effect
from chaos.scenario import mishap, scenario
from chaos.scenarios.workers import DEFAULTS
from chaos.stage import Stage
from chaos.waiting import until

LIMIT = 2.0  # seconds after the soft limit, as promised
JOBS = 12
MARGIN = 1.0  # seconds by which a job has to outlast the soft limit, to be cut short for certain


@scenario(
    "deploy",
    title="deploy: SIGTERM with 12 jobs of 8 s, soft limit 3 s, another worker there",
    plain="4 lost, 8 stuck for an hour; hardened: none lost, back after 103 s",
    seconds=30,
)
def deploy(stage: Stage) -> None:
    _deploy(stage, [8.0] * JOBS)


@scenario(
    "deploy-default-limit",
    title="deploy with the default soft limit of 25 s: 6 jobs of 8 s and 6 of 35 s",
    plain="",
    seconds=75,
    layout=DEFAULTS,
)
def deploy_with_default_limit(stage: Stage) -> None:
    _deploy(stage, [8.0, 35.0] * (JOBS // 2))


@mishap("deploy a worker")
def deploy_any_worker(stage: Stage) -> None:
    stage.terminate(stage.random.choice([*stage.platform.workers, *stage.platform.io_workers]))


def _deploy(stage: Stage, seconds: list[float]) -> None:
    platform = stage.platform
    options = {"queue": "deploy"}
    old = platform.add_worker("prefork", JOBS, queue="deploy")
    platform.await_ready(old)
    jobs = [stage.submit("chaos.work", ms=1000 * each, options=options) for each in seconds]
    new = platform.add_worker("prefork", JOBS, queue="deploy")
    starts = [stage.await_start(job) for job in jobs]
    until(lambda: platform.is_ready(new) or _left(stage, starts, seconds) < MARGIN, within=60)
    fault = stage.terminate(old)
    platform.await_ready(new)
    there_at = max(time.monotonic(), fault.over_at)
    stage.wait(max(0.0, fault.over_at - time.monotonic()))
    cut = [
        job
        for job, start, each in zip(jobs, starts, seconds, strict=True)
        if start.pid in fault.pids and start.at + each > fault.over_at
    ]
    stage.check(cut, "no job outlasted the soft limit: the deploy has proven nothing")
    again = [stage.await_start(job, attempt=2).at - there_at for job in cut]
    words = "from the soft limit, with the other worker there, until every job ran again"
    stage.measure(words, max(again, default=0), LIMIT)
    client = stage.client()
    for told in client.jobs([job.id for job in jobs]):
        budgets = (told["failures"], told["crashes"])
        stage.check(budgets == (0, 0), f"the deploy cost {told['id']} failures, crashes {budgets}")
    client.close()
    stage.finish(jobs)
    for worker in (old, new):
        platform.drop(worker)


def _left(stage: Stage, starts: list[Effect], seconds: list[float]) -> float:
    """For how long the longest job would outlast the soft limit, were the signal sent now."""
    ends = max(start.at + each for start, each in zip(starts, seconds, strict=True))
    return ends - time.monotonic() - stage.soft_limit
