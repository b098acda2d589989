"""A `python -m dev`, or a stand-in for it, as the outside sees it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dev.ports import free_port
from tests.dev.pids import lives
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
READY_WITHIN = 120.0  # seconds; other tests run beside it
STOPPED_WITHIN = 10.0  # seconds: the contract's


class Running:
    """One start. `output` is all that it has printed."""

    def __init__(self, data_dir: Path, command: list[str], environment: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.record_path = data_dir / "dev.json"
        #: Of a run that was killed: its record is there until this one has the folder.
        self._stale = find_supervisor(self.record_path)
        self._out = data_dir.with_suffix(f".{time.monotonic_ns()}.out")
        chosen = {
            "LADING_DATA_DIR": str(data_dir),
            "LADING_PORT": str(free_port()),
            "LADING_FLOWER_PORT": str(free_port()),
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("LADING_")
        }
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=inherited | chosen | dict(environment),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.seen: set[int] = set()  #: every pid that a record has named

    @property
    def output(self) -> str:
        return self._out.read_text()

    def record(self) -> dict[str, Any]:
        """dev.json, once it is there."""
        record = eventually(self._find_record, within=READY_WITHIN)
        self.seen |= {pid for pid in record["pids"].values() if pid}
        return record

    def pid(self, name: str) -> int:
        pid: int = self.record()["pids"][name]
        return pid

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """The exit code after the signal; AssertionError when it takes longer than it may."""
        if self.record_path.exists():
            self.record()
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(STOPPED_WITHIN + 5)
        assert time.monotonic() - began < STOPPED_WITHIN
        return code

    def left_over(self) -> set[int]:
        """Which of the processes still live."""
        return {pid for pid in self.seen if lives(pid)}

    def _find_record(self) -> dict[str, Any]:
        if self.process.poll() is not None:
            raise RuntimeError(f"it has ended:\n{self.output}")
        assert self.record_path.exists(), self.output
        record: dict[str, Any] = json.loads(self.record_path.read_text())
        assert record["pids"]["supervisor"] != self._stale, self.output
        return record


def find_supervisor(record: Path) -> int | None:
    """The pid in a record that may not be there."""
    try:
        pid: int = json.loads(record.read_text())["pids"]["supervisor"]
    except FileNotFoundError:
        return None
    return pid


@contextmanager
def running(
    data_dir: Path, module: str = "dev", environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Started, maybe not ready yet; ended at the end of the block, where it still runs."""
    started = Running(data_dir, [sys.executable, "-m", module], environment or {})
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            try:
                started.process.wait(STOPPED_WITHIN + 5)
            finally:
                started.process.kill()
