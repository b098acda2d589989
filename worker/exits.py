"""How a pool process ended, seen before whoever reaps it has done so."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from billiard.common import human_status

HALTS_WITHIN = 0.1  # seconds; else it waits for a disk, and does nothing either
REAPED = ""  # it is gone, and somebody else knows how
_LOST = re.compile(r"prematurely: (.*?)(?: Job: \d+)?\.?$")  # billiard's WorkerLostError
TERMINATED = frozenset({human_status(-15), human_status(15)})  # as the pool's handler exits, too


def look(pid: int) -> str | None:
    """None while the child lives; else how it ended, or REAPED. It is left to be reaped."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: the pool tells when it has reaped it
        return None
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return REAPED
    if result is None:
        return None
    exited = result.si_code == os.CLD_EXITED
    return str(human_status(result.si_status if exited else -result.si_status))


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Inside, the child does nothing, unless it hangs in the kernel; then it goes on, if it lives.

    ProcessLookupError when it is gone.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        _await_halt(pid)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _await_halt(pid: int) -> None:
    if not hasattr(os, "waitid"):
        return
    end = time.monotonic() + HALTS_WITHIN
    options = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):  # somebody has reaped it
        while os.waitid(os.P_PID, pid, options) is None and time.monotonic() < end:
            time.sleep(0.0001)


def reaped(pool: Any, pid: int) -> str | None:
    """How a process of Celery's pool ended that was reaped, as long as it stands in its list.

    Billiard reaps whoever has ended whenever it starts another one, and looks into that list later.
    """
    inner = getattr(pool, "_pool", None)
    for process in list(getattr(inner, "_pool", ())):
        if process.pid == pid and process._popen is not None:  # noqa: SLF001 - no public face
            code = process._popen.returncode  # noqa: SLF001
            return None if code is None else str(human_status(code))
    return None


def said(words: str) -> str:
    """The same from what the pool says of a lost process."""
    found = _LOST.search(words)
    return found[1] if found else words
