"""Deploys: SIGTERM, a soft limit in which attempts may end, and another worker that takes over."""

from chaos.scenario import mishap, scenario
from chaos.scenarios.workers import DEFAULTS
from chaos.stage import Stage

LIMIT = 2.0  # seconds after the soft limit, as promised
JOBS = 12
STARTS_WITHIN = 3.0  # seconds: the new worker is there before the old one's soft limit


@scenario(
    "deploy",
    title="deploy: SIGTERM with 12 jobs of 8 s, soft limit 3 s, another worker there",
    plain="4 lost, 8 stuck for an hour; hardened: none lost, back after 103 s",
    seconds=40,
)
def deploy(stage: Stage) -> None:
    _deploy(stage, [8.0] * JOBS)


@scenario(
    "deploy-default-limit",
    title="deploy with the default soft limit of 25 s: 6 jobs of 8 s and 6 of 35 s",
    plain="",
    seconds=85,
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
    for job in jobs:
        stage.await_start(job)
    new = platform.add_worker("prefork", JOBS, queue="deploy")
    stage.wait(STARTS_WITHIN)
    fault = stage.terminate(old)
    stage.wait(stage.soft_limit)
    ends = [stage.await_start(job).at + each for job, each in zip(jobs, seconds, strict=True)]
    cut = [job for job, end in zip(jobs, ends, strict=True) if end > fault.over_at]
    stage.check(cut, "no job outlasted the soft limit: the deploy has proven nothing")
    again = [stage.await_start(job, attempt=2).at - fault.over_at for job in cut]
    stage.measure("from the soft limit until every job ran elsewhere", max(again, default=0), LIMIT)
    client = stage.client()
    for told in client.jobs([job.id for job in jobs]):
        budgets = (told["failures"], told["crashes"])
        stage.check(budgets == (0, 0), f"the deploy cost {told['id']} failures, crashes {budgets}")
    client.close()
    stage.finish(jobs)
    for worker in (old, new):
        platform.drop(worker)
