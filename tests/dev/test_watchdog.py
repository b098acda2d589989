import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

from dev.watchdog import Watchdog
from tests.dev.pids import lives
from tests.eventually import eventually

FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


class Family:
    """A session leader and its child."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())
        self.process.stdout.close()
        self.reaper = Thread(target=self.process.wait)  # as init would: a zombie keeps its group
        self.reaper.start()

    def exit_code(self) -> int:
        self.reaper.join(10)
        return self.process.returncode


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    with suppress(ProcessLookupError):
        os.killpg(family.process.pid, signal.SIGKILL)
    family.reaper.join()


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    reader, writer = os.pipe()
    os.close(writer)
    watchdog = Watchdog(kept_open=reader)
    os.close(reader)
    yield watchdog
    watchdog.close()


def test_who_is_watched_at_the_end_is_killed_with_all_its_group(
    family: Family, watchdog: Watchdog
) -> None:
    watchdog.watch(family.process.pid, signal.SIGKILL)
    watchdog.close()
    assert family.exit_code() == -signal.SIGKILL
    eventually(lambda: not lives(family.child))


def test_a_gentler_signal_comes_first(family: Family, watchdog: Watchdog) -> None:
    watchdog.watch(family.process.pid, signal.SIGINT)
    os.kill(family.child, signal.SIGKILL)
    watchdog.close()
    assert family.exit_code() == 7


def test_who_was_forgotten_is_left_alone(family: Family, watchdog: Watchdog) -> None:
    watchdog.watch(family.process.pid, signal.SIGKILL)
    watchdog.forget(family.process.pid)
    watchdog.close()
    assert lives(family.process.pid)
    assert lives(family.child)


def test_a_watchdog_that_somebody_has_killed_troubles_nobody(family: Family) -> None:
    reader, writer = os.pipe()
    watchdog = Watchdog(kept_open=reader)
    watchdog._process.kill()
    watchdog._process.wait()
    watchdog.watch(family.process.pid, signal.SIGKILL)
    watchdog.forget(family.process.pid)
    watchdog.close()
    os.close(reader)
    os.close(writer)
