import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dev.child import DEATHS, Child, GaveUp
from dev.programs import Program
from tests.dev.pids import lives
from tests.eventually import eventually

FOREVER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
{FOREVER}
"""
DYING = "import sys; print('what went wrong', flush=True); sys.exit(3)"


class Toy:
    """A child whose program is a line of Python; ready when it has said so in its log."""

    def __init__(self, folder: Path, code: str, *, reloads: bool = False) -> None:
        self.log = folder / "toy.log"
        self.log.touch()
        self.code = folder / "toy.py"
        self.code.write_text(code)
        self.told: list[tuple[int | None, str]] = []
        program = Program(
            name="toy",
            command=partial(list, [sys.executable, str(self.code)]),
            is_ready=self._is_ready,
            reloads=reloads,
        )
        self.child = Child(
            program, self.log, lambda _, before, why: self.told.append((before, why))
        )

    async def _is_ready(self, _pid: int) -> bool:
        return self.log.read_text().count("up\n") >= len(self.told)

    async def restarted(self, times: int = 1) -> None:
        await until(lambda: len(self.told) > times)
        await self.child.wait_until_ready()


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not question():  # noqa: ASYNC110 - other processes change
            await asyncio.sleep(0.01)


def kept(toy: Toy, scene: Callable[[], Coroutine[Any, Any, None]], *, change: bool = False) -> None:
    """Plays the scene while the child is kept, then stops it."""

    async def play() -> None:
        keep = asyncio.create_task(toy.child.keep(wait_for_change=change))
        try:
            await scene()
        finally:
            await toy.child.stop(within=10)
            await keep

    asyncio.run(play())


def test_a_killed_child_is_started_again_at_once(tmp_path: Path) -> None:
    toy = Toy(tmp_path, FOREVER)

    async def scene() -> None:
        await toy.child.wait_until_ready()
        took: list[float] = []
        told: list[tuple[int | None, str]] = [(None, "")]
        while not took or min(took) > 2:  # seconds, the contract's; a machine may stand still
            assert len(took) < DEATHS - 1, took
            first = toy.child.pid
            assert first is not None
            began = time.monotonic()
            os.kill(first, signal.SIGKILL)
            await until(lambda: toy.child.pid != first)  # noqa: B023 - it is awaited here
            took.append(time.monotonic() - began)
            await toy.restarted(len(took))
            told.append((first, "was killed by SIGKILL and was started again"))
        assert toy.told == told

    kept(toy, scene)
    assert not lives(toy.child.pid)


def test_the_fifth_death_in_a_minute_is_the_last_and_tells_why(tmp_path: Path) -> None:
    toy = Toy(tmp_path, DYING)
    with pytest.raises(GaveUp) as caught:
        asyncio.run(toy.child.keep())
    assert len(toy.told) == DEATHS == 5
    assert "toy has died 5 times within 60 seconds, at last it ended with exit code 3" in str(
        caught.value
    )
    assert "what went wrong" in str(caught.value)


def test_four_deaths_are_borne(tmp_path: Path) -> None:
    toy = Toy(tmp_path, FOREVER)

    async def scene() -> None:
        for death in range(1, DEATHS):
            os.kill(toy.child.pid or 0, signal.SIGKILL)
            await toy.restarted(death)

    async def after_start() -> None:
        await toy.child.wait_until_ready()
        await scene()

    kept(toy, after_start)


def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    toy = Toy(tmp_path, STUBBORN)

    async def scene() -> None:
        await toy.child.wait_until_ready()
        await toy.child.stop(within=0.2)

    kept(toy, scene)
    assert not lives(toy.child.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_that_a_child_has_started_outlives_it(tmp_path: Path, number: int) -> None:
    toy = Toy(tmp_path, PARENT)
    grandchild = 0

    async def scene() -> None:
        nonlocal grandchild
        await toy.child.wait_until_ready()
        grandchild = int(toy.log.read_text().split()[1])
        assert lives(grandchild)
        if number == signal.SIGKILL:
            os.kill(toy.child.pid or 0, number)
            await until(lambda: not lives(grandchild))

    kept(toy, scene)
    eventually(lambda: not lives(grandchild))


def test_a_reload_is_no_death(tmp_path: Path) -> None:
    toy = Toy(tmp_path, FOREVER, reloads=True)

    async def scene() -> None:
        for number in range(1, DEATHS + 2):
            await toy.child.wait_until_ready()
            await toy.child.reload(within=10)
            await toy.restarted(number)
        assert {why for _, why in toy.told[1:]} == {"has been reloaded"}

    kept(toy, scene, change=True)


def test_a_broken_source_is_waited_for(tmp_path: Path) -> None:
    toy = Toy(tmp_path, "a syntax error", reloads=True)

    async def scene() -> None:
        await until(lambda: len(toy.told) == 2)
        assert "waits for a change of its source" in toy.told[1][1]
        assert "SyntaxError" in toy.told[1][1]
        toy.code.write_text("print('up\\n' * 3, flush=True); " + FOREVER)
        await toy.child.reload(within=10)
        await toy.child.wait_until_ready()

    kept(toy, scene, change=True)


def test_a_stop_before_the_start_is_done_starts_nothing(tmp_path: Path) -> None:
    toy = Toy(tmp_path, FOREVER)

    async def scene() -> None:
        await toy.child.stop(within=10)

    kept(toy, scene)
    assert toy.child.pid is None


def test_what_the_readiness_check_raises_ends_the_keeping(tmp_path: Path) -> None:
    async def refuse(_pid: int) -> bool:
        raise GaveUp("toy", "was made with another password", tmp_path / "toy.log")

    program = Program(name="toy", command=lambda: [sys.executable, "-c", FOREVER], is_ready=refuse)
    child = Child(program, tmp_path / "toy.log", lambda *_: None)
    with pytest.raises(GaveUp, match="another password"):
        asyncio.run(child.keep())
    eventually(lambda: not lives(child.pid))
