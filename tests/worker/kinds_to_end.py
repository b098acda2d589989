"""Kinds whose attempts are ended from outside: asked to end, killed, too large."""

import asyncio
import time

from lading import AsyncJobContext, JobContext, job
from tests.kinds_for_tests import Path_, append


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
