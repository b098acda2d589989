"""A process of its own for Polars' work: what it maps, spills or hangs in ends with it.

The handler's process starts it, relays what it reports, and kills it when the job is cancelled,
runs out of time or stands still. When the handler's own process dies, the engine's standard input
ends, and it ends too. It gets none of the platform's settings and secrets.

The two talk in lines of JSON: one task down, then up any number of `{"progress", "message"}` and
`{"log", "level", "fields"}`, and at last `{"result"}` or `{"fail"}`.
"""

import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from lading import Fail, JobContext, Retry

PULSE = 0.2  # seconds; so soon is a cancel noticed
STILL_AFTER = 120.0  # seconds with next to no CPU: no disk is that slow, no query that idle
STILL_CPU = 0.5  # seconds of CPU in that time; idle threads of a stuck engine use less
LAST_WORDS = 2000  # characters of what a dying engine wrote
ROOT = Path(__file__).parent.parent
KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")  # of the environment
# An attempt fits into 512 MiB (docs/explanation/data-kinds.md has the figures) as long as what a
# query must remember fits the budget or can be spilled. Whoever has more memory raises it by the
# same variables.
TUNING = {
    "POLARS_CSV_CHUNK_SIZE": "1000000",  # bytes; several are in flight, parsed
    "POLARS_SORT_TARGET_BUCKET_BYTES": "16000000",  # buckets are what a sort holds in memory
}
SPILLING = {
    "POLARS_OOC_MEMORY_BUDGET_MB": "256",  # beyond, sorts, joins and groups go to disk
    "POLARS_OOC_DRIFT_THRESHOLD": "1048576",  # bytes a thread allocates unseen by the budget
}
# Window functions and spilling hang each other in Polars 2.1, in one run of three.
WINDOW = re.compile(r"\b(over|qualify)\b", re.IGNORECASE)


class StoodStill(Exception):
    """The engine used no CPU for two minutes: it hangs."""


class EngineDied(Exception):
    """The engine ended without a result; its last words say why."""


def work(context: JobContext, task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The task's result; the files it made lie in `folder`.

    Fail with the reason when query or data are to blame, JobCancelled within a pulse; EngineDied
    and Retry (twice in a row it stood still) when another attempt may succeed.
    """
    spill = not WINDOW.search(task.get("sql", ""))
    try:
        return _work_once(context, task, folder, spill=spill)
    except StoodStill:
        context.log("warning", "the engine stood still; it starts again, without spilling to disk")
    try:
        return _work_once(context, task, folder, spill=False)
    except StoodStill:
        raise Retry("the engine stood still twice") from None


def _work_once(
    context: JobContext, task: Mapping[str, Any], folder: Path, *, spill: bool
) -> dict[str, Any]:
    with _engine(task, folder, spill=spill) as process:
        still = _Stillness(process.pid)

        def pulse() -> None:
            context.check()
            still.watch()

        for line in _lines(process, pulse):
            message = json.loads(line)
            if "result" in message:
                result: dict[str, Any] = message["result"]
                return result
            if "fail" in message:
                raise Fail(message["fail"])
            _relay(context, message)
        code = process.wait()
    raise EngineDied(_last_words(folder, code))


def _relay(context: JobContext, message: Mapping[str, Any]) -> None:
    if "progress" in message:
        context.progress(message["progress"], message["message"])
    else:
        context.log(message["level"], message["log"], **message["fields"])


@contextmanager
def _engine(
    task: Mapping[str, Any], folder: Path, *, spill: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """A running engine that has its task; it is gone afterwards, whatever happened."""
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module and folder
            [sys.executable, "-P", "-m", "kinds.data_process", str(folder)],
            cwd=folder,
            env=_environment(folder, spill=spill),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the worker, which lets its attempts end
        )
    with process:
        try:
            _tell(process, json.dumps(task).encode() + b"\n")
            yield process
        finally:
            process.kill()


def _tell(process: subprocess.Popen[bytes], task: bytes) -> None:
    """The engine has its task, or died at once: _last_words will tell."""
    assert process.stdin is not None
    try:
        process.stdin.write(task)
        process.stdin.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):  # what could not be written is tried again, once
            process.stdin.close()


def _environment(folder: Path, *, spill: bool) -> dict[str, str]:
    chosen = {name: value for name, value in os.environ.items() if name in KEPT}
    chosen |= TUNING | (SPILLING if spill else {})
    chosen |= {name: value for name, value in os.environ.items() if name.startswith("POLARS_")}
    if not spill:
        chosen.pop("POLARS_OOC_MEMORY_BUDGET_MB", None)
    chosen["POLARS_OOC_SPILL_DIR"] = str(folder / "spill")
    chosen["PYTHONPATH"] = str(ROOT)
    return chosen


def _lines(process: subprocess.Popen[bytes], pulse: Callable[[], None]) -> Iterator[bytes]:
    """What the engine says, line by line, until it says no more; `pulse` is called meanwhile."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(PULSE)
            pulse()
            if ready:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines


class _Stillness:
    """Notices that a process uses no CPU any more."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._used, self._since = 0.0, time.monotonic()

    def watch(self) -> None:
        """Nothing, or StoodStill."""
        with suppress(psutil.Error):  # it has just ended
            times = self._process.cpu_times()
            used, now = times.user + times.system, time.monotonic()
            if used - self._used >= STILL_CPU:
                self._used, self._since = used, now
            elif now - self._since > STILL_AFTER:
                raise StoodStill


def _last_words(folder: Path, code: int) -> str:
    said = (folder / "stderr").read_bytes().decode(errors="replace").strip()
    if "memory allocation of" in said:
        raise Fail("the query needs more memory than this worker has")
    words = said[-LAST_WORDS:] or "it said nothing"
    if code == -9:  # noqa: PLR2004 - SIGKILL
        words = f"killed, as the system does when memory runs out; {words}"
    return f"the engine ended with {code}: {words}"
