"""kill -9 of api processes: clients send again with the same key."""

from chaos.scenario import mishap, scenario
from chaos.stage import Stage

BETWEEN = 0.5  # seconds, at least: the other one serves again before one is killed
LONGEST = 180.0  # seconds of load, if it is not stopped before


@scenario(
    "api-killed-15",
    title="`kill -9` of api processes, 15 times",
    plain="of a row and a message written one after the other: 137 of 734 committed rows never ran;"
    " hardened: 190 of 511",
    seconds=40,
)
def kill_apis(stage: Stage) -> None:
    load = stage.load(rate=40, seconds=LONGEST)
    for count in range(15):
        for api in stage.platform.apis:
            stage.platform.await_ready(api)
        stage.wait(BETWEEN)
        stage.kill(stage.platform.apis[count % len(stage.platform.apis)])
    stage.wait(1)
    load.stop()
    load.join()
    stage.measure("slowest answer to a client", stage.slowest_answer())


@mishap("kill an api")
def kill_any_api(stage: Stage) -> None:
    stage.kill(stage.random.choice(stage.platform.apis))
