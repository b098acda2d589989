"""What the person in front of the terminal sees. Never stops the supervisor, whatever it does.

Lines go through a thread of their own: a closed pipe ends the printing, a paused terminal (Ctrl-S)
only loses lines; the children's full logs are files.
"""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TextIO

_BACKLOG = 1000  # lines that wait for a slow terminal
_FLUSH_WITHIN = 1.0  # seconds at the end
_COLOURS = (36, 33, 35, 32, 34)  # ANSI foregrounds, one per child


class Terminal:
    """Prints from its own thread. `names` get a prefix of one width, and a colour on a terminal."""

    def __init__(self, names: tuple[str, ...] = (), out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        colourful = self._out.isatty() and "NO_COLOR" not in os.environ
        self._width = max(map(len, names), default=0)
        self._colours: Mapping[str, int] = (
            {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)} if colourful else {}
        )
        self._lines: queue.Queue[str | None] = queue.Queue(_BACKLOG)
        self._thread = threading.Thread(target=self._print, name="terminal", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A word of the supervisor's own. Dropped where the terminal does not take any more."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(text)

    def relay(self, name: str, line: str) -> None:
        """A line of a child, after its name."""
        prefix = f"{name:<{self._width}} |"
        if colour := self._colours.get(name):
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.say(f"{prefix} {line}")

    def close(self) -> None:
        """All lines are out, or the terminal has not taken them within a second."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_WITHIN)
            self._thread.join(_FLUSH_WITHIN)

    def _print(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                print(line, file=self._out, flush=True)
        except (OSError, ValueError):  # BrokenPipeError at `| head`; ValueError: closed
            # The interpreter flushes it again at its end, and would complain.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class Tail:
    """The complete lines that were added to a growing file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def skip(self) -> None:
        """What is there by now is never read."""
        self.read()
        self._rest = b""

    def read(self) -> list[str]:
        """New lines, without their ends; none while there is no file."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return []
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in lines]

    def close(self) -> None:
        if self._file:
            self._file.close()


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, as far as the last 64 KiB hold it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
