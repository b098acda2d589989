"""Dispatchers that die, and two of them at once."""

from chaos.keeper import Keeper
from chaos.scenario import mishap, scenario
from chaos.stage import LONGEST, Stage

BETWEEN = 0.5  # seconds


@scenario(
    "dispatcher-killed-15",
    title="`kill -9` of the only dispatcher, 15 times",
    plain="has none",
    seconds=55,
)
def kill_the_dispatcher(stage: Stage) -> None:
    load = stage.load(rate=40, seconds=LONGEST)
    stage.kill_again_and_again(stage.platform.dispatchers, 15, BETWEEN)
    stage.wait(1)
    load.stop()
    load.join()
    stage.measure("longest wait from the answer to the start", stage.slowest_start())


@scenario(
    "two-dispatchers",
    title="two dispatchers at once; one is killed, frozen and thawed",
    plain="has none",
    seconds=50,
)
def run_two_dispatchers(stage: Stage) -> None:
    platform = stage.platform
    second = platform.add_dispatcher()
    platform.await_ready(second)
    load = stage.load(rate=60, seconds=20)
    stage.wait(3)
    stage.kill(platform.dispatchers[0])
    stage.wait(3)
    _freeze(stage, platform.dispatchers[0], 1.5 * stage.lease)
    load.join()
    stage.measure("longest wait from the answer to the start", stage.slowest_start())
    platform.drop(second)


@mishap("kill a dispatcher")
def kill_any_dispatcher(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.dispatchers))


@mishap("freeze a dispatcher")
def freeze_any_dispatcher(stage: Stage) -> None:
    _freeze(stage, stage.random.choice(stage.platform.dispatchers), stage.lease)


def _freeze(stage: Stage, dispatcher: Keeper, seconds: float) -> None:
    fault = stage.outage(f"{dispatcher.name} frozen")
    dispatcher.freeze()
    stage.wait(seconds)
    dispatcher.thaw()
    fault.end()
