"""Ends the supervisor's children when it has died without ending them itself, killed by -9 say.

It waits on a pipe that only the supervisor writes to. Linux tells the children by itself
(PR_SET_PDEATHSIG), but neither their children nor those of macOS. While it works it holds the data
directory's lock, so that the next `make dev` waits for it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

GRACE = 5.0  # seconds for a server that closes its files
_POLL_EVERY = 0.05  # seconds


class Watchdog:
    """The supervisor's end of the pipe. `kept_open` is a file descriptor that it holds too."""

    def __init__(self, kept_open: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dev.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
            pass_fds=[kept_open],
            start_new_session=True,
            text=True,
        )

    def watch(self, pid: int, death_signal: int) -> None:
        """The child shall not outlive us."""
        self._tell(f"+{pid} {int(death_signal)}")

    def forget(self, pid: int) -> None:
        """The child is gone, with its group."""
        self._tell(f"-{pid}")

    def close(self) -> None:
        """It has ended, after what it still watched."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            print(line, file=self._process.stdin, flush=True)


def watched_at_the_end(lines: Iterable[str]) -> dict[int, int]:
    """Which pids are still watched after the last line, and the signal for each."""
    watched: dict[int, int] = {}
    for line in lines:
        pid, _, number = line[1:].partition(" ")
        if line.startswith("+"):
            watched[int(pid)] = int(number)
        else:
            watched.pop(int(pid), None)
    return watched


def end(watched: dict[int, int]) -> None:
    """Each got its signal, and after the grace its whole group is gone."""
    for pid, number in watched.items():
        _signal_group(pid, number)
    deadline = time.monotonic() + GRACE
    while any(_signal_group(pid, 0) for pid in watched) and time.monotonic() < deadline:
        time.sleep(_POLL_EVERY)
    for pid in watched:
        _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> bool:
    """Whether anybody was there to get it."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main(commands: TextIO) -> None:
    """Waits for the end of the pipe, then acts. No signal but SIGKILL ends it earlier."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(watched_at_the_end(commands))


if __name__ == "__main__":
    main(sys.stdin)
