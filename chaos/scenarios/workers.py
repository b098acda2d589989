"""kill -9 of workers with all their children."""

from chaos.scenario import mishap, scenario
from chaos.stage import Stage

LIMIT = 12.0  # seconds: 40 s with the default lease of 30 s, less the part that scales with it


@scenario(
    "worker-killed",
    title="kill -9 of a worker and its children, once",
    plain="1–2 lost and 6–16 stuck for an hour; hardened: none lost, back after 96–104 s",
    seconds=25,
    limit=LIMIT,
)
def kill_a_worker(stage: Stage) -> None:
    load = stage.load(rate=40, seconds=12)
    stage.wait(4)
    stage.kill(stage.platform.workers[0])
    load.join()


@mishap("kill a worker")
def kill_any_worker(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.workers))
