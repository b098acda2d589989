"""Kinds whose handlers behave as few should."""

import asyncio
import builtins
import contextlib
import ctypes
import itertools
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lading import AsyncJobContext, JobContext, Retry, RetryPolicy, job
from tests.kinds_for_tests import Echo, Path_, Times, append

QUICK = RetryPolicy(base=0.05, cap=0.2)


class Count(BaseModel):
    count: int


class Strict(BaseModel):
    number: int


class Told(BaseModel):
    path: Path  #: where it writes down that it was there
    does: str = ""


@job("odd.as_told", max_attempts=5, retry=QUICK)
def as_told(context: JobContext, args: Told) -> str:
    append(args.path, str(context.job_id))
    match args.does:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fails":
            raise ValueError("as it was told")
        case "speaks":
            context.log("info", "here I am")
        case "brings much":
            return "x" * 1000
        case "waits":
            while not Path(f"{args.path}.go").exists():
                time.sleep(0.01)
    return args.does


@job("odd.number")
def number(context: JobContext, args: Strict) -> int:
    return args.number


@job("odd.big")
def big(context: JobContext, args: Count) -> str:
    return "x" * args.count


@job("odd.unstorable")
def unstorable(context: JobContext, args: Echo) -> Any:
    """A result that no jsonb column can hold as it is."""
    context.log("info", "a NUL \0 and half a pair \ud800", odd={"\0": object()}, far=float("inf"))
    context.progress(float("nan"), "\0")
    return {"text": "a\0b\ud800", "number": float("nan")}


@job("odd.unstorable_error", max_attempts=1)
def unstorable_error(context: JobContext, args: Echo) -> None:
    raise ValueError("a\0b\ud800" + "long " * 10_000)


@job("odd.not_json", max_attempts=1)
def not_json(context: JobContext, args: Echo) -> Any:
    return object()


@job("odd.exits", max_attempts=1)
def exits(context: JobContext, args: Echo) -> None:
    sys.exit(3)


class Raise(BaseModel):
    name: str  #: of a builtin exception


@job("odd.raises", max_attempts=1)
def raises(context: JobContext, args: Raise) -> None:
    raise getattr(builtins, args.name)("as asked")


@job("odd.raises_io", queue="io", max_attempts=1)
async def raises_io(context: AsyncJobContext, args: Raise) -> None:
    raise getattr(builtins, args.name)("as asked")


@job("odd.raises_beside_io", queue="io", max_attempts=1)
async def raises_beside_io(context: AsyncJobContext, args: Raise) -> None:
    """A task of the handler's own raises."""

    async def beside() -> None:
        raise getattr(builtins, args.name)("as asked")

    await asyncio.create_task(beside())


@job("odd.recurses", max_attempts=1)
def recurses(context: JobContext, args: Echo) -> None:
    recurses(context, args)


@job("odd.much_later", max_attempts=5)
def much_later(context: JobContext, args: Echo) -> None:
    """Asks for a time that no timestamp of PostgreSQL's can hold."""
    raise Retry(after=timedelta.max)


@job("odd.vanishes", max_attempts=5)
def vanishes(context: JobContext, args: Echo) -> None:
    os._exit(3)


@job("odd.chatters")
def chatters(context: JobContext, args: Count) -> int:
    for index in range(args.count):
        context.log("debug", f"line {index}")
    return args.count


@job("odd.chatters_io", queue="io", timeout=60)
async def chatters_io(context: AsyncJobContext, args: Path_) -> None:
    """Until its file says so."""
    for index in itertools.takewhile(lambda _: not _may_go(args), itertools.count()):
        context.log("debug", f"line {index}", index=index)
        context.progress(index % 100 / 100)
        await asyncio.sleep(0.01)


@job("odd.steps_io", queue="io", max_attempts=5, retry=QUICK)
async def steps_io(context: AsyncJobContext, args: Times) -> list[Any]:
    """Two steps and a child, with a failure after them on the first attempt."""

    async def one() -> dict[str, int]:
        append(args.path, "one")
        return {"one": 1}

    first: dict[str, int] = await context.step("one", one)
    second = await context.step("two", lambda: (1, 2))
    child = await context.submit("test.echo", {"value": 1}, labels={"of": "io"})
    if context.failures < args.times:
        raise RuntimeError("after the steps")
    return [first, second, str(child)]


@job("odd.families", max_attempts=5, retry=QUICK)
def families(context: JobContext, args: Times) -> list[str]:
    """Two children on each attempt."""
    ids = [str(context.submit("test.echo", Echo(value=value), priority=7)) for value in (1, 2)]
    append(args.path, " ".join(ids))
    if context.failures < args.times:
        raise RuntimeError("after the children")
    return ids


@job("odd.bad_child", max_attempts=5)
def bad_child(context: JobContext, args: Echo) -> None:
    context.submit("odd.number", {"number": "seven"})


@job("odd.bad_step", max_attempts=1)
def bad_step(context: JobContext, args: Echo) -> None:
    context.step("one", object)


@job("odd.copies")
def copies(context: JobContext, args: Path_) -> str:
    """A new file with the same bytes, twice."""
    args.path.write_bytes(b"some bytes")
    saved = context.save_file(args.path, name="../../etc/passwd", media_type="text/plain")
    assert context.file(str(saved.id)).path.read_bytes() == b"some bytes"
    return str(saved.id)


@job("odd.no_file")
def no_file(context: JobContext, args: Echo) -> None:
    context.file("7d1e6a5e-0000-4000-8000-000000000000")


@job("odd.too_long_io", queue="io", timeout=1, max_attempts=1)
async def too_long_io(context: AsyncJobContext, args: Path_) -> None:
    try:
        await asyncio.sleep(args.seconds)
    except BaseException as error:
        append(args.path, type(error).__name__)
        raise


@job("odd.deaf_io", queue="io", timeout=1, max_attempts=1)
async def deaf_io(context: AsyncJobContext, args: Path_) -> None:
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(args.seconds)


@job("odd.deaf_thread", queue="io", timeout=1, max_attempts=1)
def deaf_thread(context: JobContext, args: Path_) -> None:
    append(args.path, "start")
    time.sleep(args.seconds)


@job("odd.checks_thread", queue="io", timeout=1, max_attempts=1)
def checks_thread(context: JobContext, args: Path_) -> None:
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        context.check()
        time.sleep(0.02)


@job("odd.too_long_async", timeout=1, max_attempts=1)
async def too_long_async(context: AsyncJobContext, args: Path_) -> None:
    """An async handler on the prefork pool."""
    try:
        await asyncio.sleep(args.seconds)
    except BaseException as error:
        append(args.path, type(error).__name__)
        raise


@job("odd.sleeps_on", timeout=60)
def sleeps_on(context: JobContext, args: Path_) -> str:
    """Hears of nothing until its time is over."""
    append(args.path, f"start {context.attempt} {os.getpid()}")
    time.sleep(args.seconds)
    append(args.path, "end")
    return "slept"


@job("odd.waits_deafly", timeout=60)
def waits_deafly(context: JobContext, args: Path_) -> str:
    """Hears of nothing until its file is there, or its time is over."""
    append(args.path, f"start {context.attempt} {os.getpid()}")
    end = time.monotonic() + args.seconds
    while time.monotonic() < end and not _may_go(args):
        time.sleep(0.02)
    return "went"


@job("odd.waits_deafly_io", queue="io", timeout=60)
def waits_deafly_io(context: JobContext, args: Path_) -> str:
    return waits_deafly(context, args)


@job("odd.sleeps_on_io", queue="io", timeout=60)
def sleeps_on_io(context: JobContext, args: Path_) -> str:
    append(args.path, f"start {context.attempt} {os.getpid()}")
    time.sleep(args.seconds)
    append(args.path, "end")
    return "slept"


@job("odd.tells_its_end_io", queue="io", timeout=60)
async def tells_its_end_io(context: AsyncJobContext, args: Path_) -> None:
    append(args.path, "start")
    try:
        await asyncio.sleep(args.seconds)
    finally:
        append(args.path, "end")


@job("odd.segfaults", max_attempts=5)
def segfaults(context: JobContext, args: Echo) -> None:
    context.log("info", "into the dark")
    time.sleep(0.5)  # until that has been sent
    ctypes.string_at(0)


def _may_go(args: Path_) -> bool:
    return Path(f"{args.path}.go").exists()
