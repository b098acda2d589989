"""`make dev` ends when make is told to end.

Make passes SIGTERM on. A SIGINT that make alone gets (by `kill -INT`; Ctrl-C reaches us too) it
keeps to itself: it blocks the signal and waits for us. And a killed make tells nobody.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

_LOOK_EVERY = 0.5  # seconds


async def follow_make(stop: Callable[[], None]) -> None:
    """Calls `stop` once, when our parent is a make that was interrupted or is gone."""
    parent = os.getppid()
    if not _is_make(parent):
        return
    while os.getppid() == parent and not _was_interrupted(parent):  # noqa: ASYNC110 - another process
        await asyncio.sleep(_LOOK_EVERY)
    stop()


def _is_make(pid: int) -> bool:
    try:
        return psutil.Process(pid).name() in {"make", "gmake"}
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _was_interrupted(pid: int) -> bool:
    """Whether make is in its handler for SIGINT, as far as /proc tells (Linux)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) >> (signal.SIGINT - 1) & 1)
