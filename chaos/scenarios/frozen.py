"""Workers that stand still: SIGSTOP is a paused machine, a full swap, a partition."""

import time

from chaos.faults import Fault
from chaos.keeper import Keeper
from chaos.scenario import mishap, scenario
from chaos.stage import Stage

LIMIT = 12.0  # seconds from the freeze: the lease of 6, a sweep each second, and the noise
SLOW = 2500  # ms: a job that is still running when its worker freezes
POPS = 0.3  # seconds in which the broker hands a bell to a socket that nobody reads
ROUNDS, IDLE = 5, 4


@scenario(
    "worker-frozen",
    title="worker frozen past its lease, then thawed: its late report changes nothing",
    plain="",
    seconds=35,
    limit=LIMIT,
)
def freeze_a_worker(stage: Stage) -> None:
    platform = stage.platform
    pair = [platform.add_worker("prefork", 2, queue="thaw") for _ in range(2)]
    for worker in pair:
        platform.await_ready(worker)
    load = stage.load(rate=15, seconds=20)
    jobs = [stage.submit("chaos.work", ms=SLOW, options={"queue": "thaw"}) for _ in range(4)]
    starts = [stage.await_start(job) for job in jobs]
    frozen = next(worker for worker in pair if starts[0].pid in worker.children)
    held = [job for job, start in zip(jobs, starts, strict=True) if start.pid in frozen.children]
    fault = _freeze(stage, frozen)
    for job in held:
        stage.await_start(job, attempt=2)
    stage.wait(SLOW / 1000 + 1)
    client = stage.client()
    before = [*client.jobs([job.id for job in held])]
    frozen.thaw()
    fault.end()
    stage.wait(4)
    after = [*client.jobs([job.id for job in held])]
    client.close()
    stage.check(before == after, f"the thawed worker has changed {before} to {after}")
    load.join()
    for worker in pair:
        platform.drop(worker)


@scenario(
    "idle-frozen-killed-20",
    title="idle worker frozen, a job arrives, the worker is killed: 20 times",
    plain="20 of 20 lost; hardened: 18 of 20 lost",
    seconds=60,
)
def kill_frozen_idle_workers(stage: Stage) -> None:
    """The bell is popped from the broker and dies in a socket; only its age tells."""
    platform = stage.platform
    names = [f"idle-{number}" for number in range(IDLE)]
    workers = [platform.add_worker("prefork", 1, queue=name) for name in names]
    slowest = 0.0
    for _ in range(ROUNDS):
        for worker in workers:
            platform.await_ready(worker)
        stage.wait(1)  # they listen
        faults = [_freeze(stage, worker) for worker in workers]
        jobs = [stage.submit("chaos.work", ms=5, options={"queue": name}) for name in names]
        stage.wait(POPS)
        killed_at = time.monotonic()
        for worker, fault in zip(workers, faults, strict=True):
            worker.kill()
            fault.end()
        slowest = max(slowest, *(stage.await_start(job).at - killed_at for job in jobs))
    stage.measure("from the kill until every job had started", slowest)
    for worker in workers:
        platform.drop(worker)


@mishap("freeze a worker for a while")
def freeze_any_worker(stage: Stage) -> None:
    workers = [*stage.platform.workers, *stage.platform.io_workers]
    worker = stage.random.choice(workers)
    fault = _freeze(stage, worker)
    stage.wait(stage.random.choice([0.3, 1.5]) * stage.lease)
    worker.thaw()
    fault.end()


def _freeze(stage: Stage, worker: Keeper) -> Fault:
    fault = stage.faults.add(f"{worker.name} frozen", frozenset(worker.family))
    worker.freeze()
    return fault
