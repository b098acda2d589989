"""A short selection of `make chaos`: the same harness and verdict, on one platform."""

from collections.abc import Iterator

import pytest

from chaos.platform import Layout, Platform
from chaos.running import run
from chaos.scenario import Act, Scenario
from chaos.stage import Stage
from chaos.telling import paragraph

LAYOUT = Layout(apis=2, workers=2, io_workers=1, dispatchers=1)
SETTLES_WITHIN = 90.0  # seconds; a busy machine takes its time to start what was killed


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform(LAYOUT) as started:
        yield started


def kill_one_of_each(stage: Stage) -> None:
    """A worker, an api, a dispatcher and a worker with threads, one after the other."""
    load = stage.load(rate=15, seconds=8)
    stage.wait(2)
    for role in ("workers", "apis", "dispatchers", "io_workers"):
        stage.kill(getattr(stage.platform, role)[0])
        stage.wait(1)
    load.join()


def wipe_the_broker_in_a_deploy(stage: Stage) -> None:
    """A poisonous job runs meanwhile, and jobs that are longer than the soft limit."""
    load = stage.load(rate=15, seconds=6)
    poison = stage.submit("chaos.poison", ms=20, state="failed", cause="crashed", starts=3)
    long = stage.submit("chaos.work", ms=5000)
    worker = next(w for w in stage.platform.workers if stage.await_start(long).pid in w.children)
    stage.terminate(worker)
    stage.platform.valkey.kill()
    stage.wait(1)
    stage.platform.valkey.start()
    load.join()
    stage.finish([poison, long])


@pytest.mark.slow
@pytest.mark.parametrize("act", [kill_one_of_each, wipe_the_broker_in_a_deploy])
def test_nothing_is_lost_and_nothing_wrong(act: Act, platform: Platform) -> None:
    scenario = Scenario(act.__name__, act, "", "", 0, None, LAYOUT, SETTLES_WITHIN)
    outcome = run(scenario, platform, seed=3)
    assert outcome.is_good, paragraph(outcome)
    assert outcome.accepted > 80
