"""kill -9 of api processes: clients send again with the same key."""

from chaos.scenario import mishap, scenario
from chaos.stage import LONGEST, Stage

BETWEEN = 0.5  # seconds


@scenario(
    "api-killed-15",
    title="`kill -9` of api processes, 15 times",
    plain="of a row and a message written one after the other: 137 of 734 committed rows never ran;"
    " hardened: 190 of 511",
    seconds=55,
)
def kill_apis(stage: Stage) -> None:
    load = stage.load(rate=40, seconds=LONGEST)
    stage.kill_again_and_again(stage.platform.apis, 15, BETWEEN)
    stage.wait(1)
    load.stop()
    load.join()
    stage.measure("slowest answer to a client", stage.slowest_answer())


@mishap("kill an api")
def kill_any_api(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.apis))
