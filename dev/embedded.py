"""A server of our own as a foreground child: prepared, started, ready, stopped.

The child dies with its owner (dev/spawning.py); what it has stored stays in its folder.
"""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dev.errors import DevError
from dev.ports import LOOPBACK, free_port
from dev.spawning import Account, child_options

READY_WITHIN = 30.0  # seconds; recovery of a large log takes longer than the usual 0.1
STOPPED_WITHIN = 10.0  # seconds, then it is killed
POLL_EVERY = 0.02  # seconds
PORT_TRIES = 3  # a free port may be taken before the server has it


def wheel_folder(package: str) -> Path | None:
    """Where an installed wheel lies, found without importing it."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


class EmbeddedServer(ABC):
    """One server on 127.0.0.1. Usable as a context manager; may be started again after a stop.

    The supervisor (dev/child.py) starts the child itself: `start` and `stop` are for tests.
    """

    name: str
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM

    def __init__(self, folder: Path, port: int | None, account: Account | None = None) -> None:
        self.folder = folder.absolute()
        self.account = account
        self.port = port or 0
        self._any_port = port is None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with the password if there is one."""

    @abstractmethod
    def prepare(self) -> None:
        """All is there that `command` needs: binaries, folder, rights; else DevError."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves a client now. Blocks for two seconds at most."""

    def configuration(self) -> bytes | None:
        """What the server reads from its standard input, if it does."""
        return None

    @property
    def working_folder(self) -> Path:
        """Where the child starts; its account must be able to go there."""
        return self.folder

    @property
    def log(self) -> Path:
        """Where the child's words go when it is started from here."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and alive else None

    def start(self) -> Self:
        """The server answers. DevError with the end of its log when it does not get that far."""
        self.prepare()
        tries = PORT_TRIES if self._any_port and not self.port else 1
        while True:
            tries -= 1
            self.port = self.port or free_port()
            self._spawn()
            try:
                self._wait_until_ready()
            except DevError:
                self.kill()
                if not tries:
                    raise
                self.port = 0
            else:
                return self

    def stop(self) -> None:
        """It has ended in good order, or was killed after ten seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """It was killed (SIGKILL) and is gone; a `start` may follow."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _spawn(self) -> None:
        configuration = self.configuration()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL if configuration is None else subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.working_folder,
                **child_options(self.account, self.death_signal),
            )
        if self._process.stdin is not None and configuration is not None:
            self._process.stdin.write(configuration)
            self._process.stdin.close()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_WITHIN
        while not self.is_ready():
            if self._process.poll() is not None:
                raise DevError(f"{self.name} has ended at its start:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise DevError(f"{self.name} does not answer on {LOOPBACK}:{self.port}")
            time.sleep(POLL_EVERY)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-10:])
