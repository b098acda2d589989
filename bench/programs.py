"""Processes that are started and stopped, each with all of its children."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bench.peer import Peer
from dev.spawning import child_options
from dev.terminal import last_lines

STOPS_WITHIN = 20.0  # seconds; then it is killed
LAST_WORDS = 20  # lines of a log


class Started:
    """A program of a peer in a session of its own; it ends with us, whatever happens."""

    def __init__(self, peer: Peer, command: str, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603
                command_of(peer, command),
                cwd=peer.home,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                **child_options(death_signal=signal.SIGKILL),
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """ChildProcessError with its last words when it has ended."""
        if self._process.poll() is not None:
            words = "\n".join(last_lines(self.log, LAST_WORDS))
            raise ChildProcessError(f"{self.log.stem} has ended:\n{words}")

    def begin_to_stop(self) -> None:
        """It is told to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Neither it nor a child of it runs any more."""
        self.begin_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOPS_WITHIN)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def run(peer: Peer, command: str, environment: Mapping[str, str]) -> str:
    """What it has said. ChildProcessError with all of its words when it fails."""
    done = subprocess.run(  # noqa: S603
        command_of(peer, command),
        check=False,
        cwd=peer.home,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ChildProcessError(f"{command} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def command_of(peer: Peer, command: str) -> list[str]:
    """The same with the path of the peer's own program."""
    program, *arguments = shlex.split(command)
    return [str(peer.binaries / program), *arguments]
