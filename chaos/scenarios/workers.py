"""kill -9 of workers with all their children."""

from chaos.platform import Layout
from chaos.scenario import mishap, scenario
from chaos.stage import LONGEST, Stage

LIMIT = 12.0  # seconds with a lease of 6: the lease, a sweep each second, and a worker's start
LIMIT_OF_DEFAULT = 40.0  # seconds with a lease of 30, as promised
DEFAULTS = Layout(lease=None, soft_shutdown=None)
BETWEEN = 0.5  # seconds


@scenario(
    "worker-killed",
    title="`kill -9` of a worker and its children",
    plain="1–2 lost, 6–16 stuck for an hour; hardened: none lost, back after 96–104 s",
    seconds=20,
    limit=LIMIT,
)
def kill_a_worker(stage: Stage) -> None:
    load = stage.load(rate=40, seconds=12)
    stage.wait(4)
    stage.kill(stage.platform.workers[0])
    load.join()


@scenario(
    "worker-killed-15",
    title="`kill -9` of workers of both pools, 15 times",
    plain="11 lost, 63 stuck for an hour; hardened: none lost, 1–3 duplicated, back after 80–114 s",
    seconds=70,
    limit=LIMIT,
)
def kill_workers(stage: Stage) -> None:
    load = stage.load(rate=20, seconds=LONGEST)
    stage.wait(1)
    workers = [*stage.platform.workers, *stage.platform.io_workers]
    stage.kill_again_and_again(workers, 15, BETWEEN)
    stage.wait(2)
    load.stop()
    load.join()


@scenario(
    "worker-killed-default-lease",
    title="`kill -9` of a worker, with the default lease of 30 s",
    plain="see above; hardened: back after 96–104 s",
    seconds=45,
    limit=LIMIT_OF_DEFAULT,
    layout=DEFAULTS,
)
def kill_a_worker_with_default_lease(stage: Stage) -> None:
    slow = [stage.submit("chaos.work", ms=2000) for _ in range(4)]  # two of them are hit
    load = stage.load(rate=30, seconds=10)
    for entry in slow:
        stage.await_start(entry)
    stage.kill(stage.platform.workers[0])
    load.join()


@mishap("kill a worker")
def kill_any_worker(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.workers))


@mishap("kill a worker with threads")
def kill_any_io_worker(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.io_workers))
