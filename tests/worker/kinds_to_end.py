"""Kinds whose attempts are ended from outside: asked to end, killed, too large."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from lading import AsyncJobContext, JobContext, job
from tests.kinds_for_tests import Path_, append
from worker.sampler import SAMPLE_EVERY

MEBIBYTE = 1024 * 1024


@job("odd.shows_progress", timeout=60)
def shows_progress(context: JobContext, args: Path_) -> None:
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        context.progress(0.5)
        time.sleep(0.02)


@job("odd.waits_in_a_process", timeout=60)
async def waits_in_a_process(context: AsyncJobContext, args: Path_) -> None:
    await asyncio.sleep(args.seconds)


@job("odd.fails_late_io", queue="io", timeout=60)
def fails_late_io(context: JobContext, args: Path_) -> None:
    time.sleep(args.seconds)
    append(args.path, "end")
    raise RuntimeError("after all that")


class Mebibytes(BaseModel):
    mebibytes: int
    path: Path
    seconds: float = 30


@job("odd.grows", memory_limit="96MiB", max_attempts=5)
def grows(context: JobContext, args: Mebibytes) -> int:
    """Takes so much, holds it until its file or its time says so, and says how much that was."""
    context.log("info", "growing", to=args.mebibytes)
    held = bytes(os.urandom(1)) * (args.mebibytes * MEBIBYTE)
    _stay(context, args)
    return len(held)


@job("odd.grows_elsewhere", memory_limit="96MiB", max_attempts=5)
def grows_elsewhere(context: JobContext, args: Mebibytes) -> None:
    """The same in a process of its own."""
    code = f"import sys; held = b'x' * ({args.mebibytes} * {MEBIBYTE}); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        _stay(context, args)
        assert process.stdin is not None
        process.stdin.close()


@job("odd.grows_freely", max_attempts=5)
def grows_freely(context: JobContext, args: Mebibytes) -> int:
    """Without a limit. If it stays, it says so when it has been looked at some times."""
    held = bytes(os.urandom(1)) * (args.mebibytes * MEBIBYTE)
    if args.seconds:
        time.sleep(4 * SAMPLE_EVERY)
        append(args.path, str(os.getpid()))
    _stay(context, args)
    return len(held)


@job("odd.leaves_a_process", max_attempts=5)
def leaves_a_process(context: JobContext, args: Path_) -> None:
    """Which nobody tells to end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    append(args.path, str(process.pid))
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(args.seconds)


def _stay(context: JobContext, args: Mebibytes) -> None:
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        context.check()
        time.sleep(0.02)
