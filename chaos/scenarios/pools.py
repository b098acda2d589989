"""kill -9 of pool processes at work, while their parent lives on."""

from chaos.effects import Effect
from chaos.scenario import mishap, scenario
from chaos.stage import Stage
from chaos.waiting import until

LIMIT = 2.0  # seconds: the parent reports the death, no lease has to run out


@scenario(
    "children-killed-10",
    title="`kill -9` of a busy pool process, 10 times",
    plain="5–7 of 10 lost, with the status FAILURE; hardened: none lost, at most 1 duplicated",
    seconds=25,
    limit=LIMIT,
)
def kill_children(stage: Stage) -> None:
    orders = [stage.order("chaos.work", {"ms": 300}) for _ in range(120)]
    load = stage.load(rate=6, seconds=20, orders=orders)
    stage.wait(1)
    for _ in range(10):
        busy = until(lambda: _busy(stage), within=10, every=0.02)
        stage.kill_child(stage.random.choice(busy).pid)
        stage.wait(1.5)
    load.join()


@mishap("kill a pool process")
def kill_any_child(stage: Stage) -> None:
    if busy := _busy(stage):
        stage.kill_child(stage.random.choice(busy).pid)


def _busy(stage: Stage) -> list[Effect]:
    """The handlers that pool processes of living workers run right now."""
    pids = {pid for worker in stage.platform.workers for pid in worker.children}
    return [effect for effect in stage.platform.effects.running() if effect.pid in pids]
