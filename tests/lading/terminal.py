"""`lading` as a process of its own, on a terminal or beside one."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.api.serving import Api
from tests.conftest import ROOT

ROWS, COLUMNS = 40, 120


class Terminal:
    """A command at a terminal; `text` is all that it has written there."""

    def __init__(self, api: Api, *arguments: object, **environment: str) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.text = ""
        self._process = subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            env=surroundings(api, TERM="xterm-256color", **environment),
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other end is closed
            while found := os.read(self._main, 65536):
                self.text += found.decode(errors="replace")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self, within: float = 30.0) -> int:
        """The exit code; all that was written is there."""
        code = self._process.wait(within)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.end()
        os.close(self._main)


@contextmanager
def terminal(api: Api, *arguments: object, **environment: str) -> Iterator[Terminal]:
    """`lading …` at a terminal, as long as the block lasts."""
    made = Terminal(api, *arguments, **environment)
    try:
        yield made
    finally:
        made.close()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lading", *map(str, arguments)]


def surroundings(api: Api, **environment: str) -> dict[str, str]:
    """The environment of a command that speaks to that API."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
    }
    return {**kept, "LADING_URL": api.url, "LADING_API_KEY": api.key, **environment}
