"""Keeps a process running as a service manager does: what ends is started again."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from chaos.waiting import until
from dev.spawning import child_options

ROOT = Path(__file__).parent.parent
RESTART_AFTER = 0.5  # seconds; systemd's RestartSec is 0.1, Docker's and Kubernetes' grow
STOPS_WITHIN = 20.0  # seconds for an end in good order


class Death(NamedTuple):
    """One end of the process."""

    name: str
    at: float  #: seconds of the monotonic clock
    code: int  #: negative: the signal
    is_asked: bool  #: whether we did it


class Keeper:
    """One process in a session of its own, so that it can be signalled with its children."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name, self.command, self.log = name, command, log
        self.environment = dict(environment)
        self.restart_after = RESTART_AFTER
        self.deaths: list[Death] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked = False
        self._stopping = threading.Event()
        self._started = threading.Event()
        # Linux ends a child with the thread that started it: all starts are this thread's.
        self._thread = threading.Thread(target=self._keep, name=f"keep {name}", daemon=True)

    def start(self) -> Self:
        """The process runs, which does not mean that it is ready."""
        self._thread.start()
        self._started.wait()
        return self

    @property
    def pid(self) -> int:
        """Of the process, or of the one that was there last."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def children(self) -> list[int]:
        """The pids of its children: of a prefork worker its pool."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def family(self) -> list[int]:
        """It and its children."""
        return [self.pid, *self.children]

    def send(self, number: signal.Signals, *, is_fatal: bool) -> None:
        """The process alone gets the signal; with `is_fatal` its end is no surprise."""
        self._is_asked |= is_fatal
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """It and its children are dead (SIGKILL); its successor comes after a pause."""
        self._is_asked = True
        dead = self._process
        self._signal_group(signal.SIGKILL)
        if dead is not None:
            until(lambda: dead.poll() is not None, within=STOPS_WITHIN)

    def freeze(self) -> None:
        """It and its children stand still (SIGSTOP)."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        self._signal_group(signal.SIGCONT)

    def begin_to_stop(self) -> None:
        """It is told to end, and will stay away."""
        if not self._stopping.is_set():
            self._stopping.set()
            self.thaw()
            self.send(signal.SIGTERM, is_fatal=True)

    def stop(self) -> None:
        """It has ended in good order, or was killed, and stays away."""
        self.begin_to_stop()
        self._thread.join(STOPS_WITHIN)
        if self._thread.is_alive():
            self._signal_group(signal.SIGKILL)
            self._thread.join()

    def _signal_group(self, number: signal.Signals) -> None:
        if self.is_running:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command,
                    env={**os.environ, **self.environment},
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **child_options(death_signal=signal.SIGKILL),
                )
            self._started.set()
            code = self._process.wait()
            self.deaths.append(Death(self.name, time.monotonic(), code, self._is_asked))
            self._is_asked = False
            self._stopping.wait(self.restart_after)
