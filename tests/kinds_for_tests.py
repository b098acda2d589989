"""Kinds that do what a test needs: return, raise, wait, die."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from lading import (
    AsyncJobContext,
    Cancel,
    Fail,
    JobContext,
    Retry,
    RetryPolicy,
    job,
)

QUICK = RetryPolicy(base=0.05, cap=0.2)


class Echo(BaseModel):
    value: Any = None


class Path_(BaseModel):  # noqa: N801 - `Path` is taken
    path: Path
    seconds: float = 30


class Secret(BaseModel):
    user: str
    password: SecretStr


class Times(BaseModel):
    times: int = 1
    path: Path


@job("test.echo")
def echo(context: JobContext, args: Echo) -> Any:
    return args.value


@job("test.echo_io", queue="io")
async def echo_io(context: AsyncJobContext, args: Echo) -> Any:
    await asyncio.sleep(0)
    return args.value


@job("test.secret")
def secret(context: JobContext, args: Secret) -> int:
    return len(args.password.get_secret_value())


@job("test.raises", max_attempts=2, retry=QUICK)
def raises(context: JobContext, args: Echo) -> None:
    raise RuntimeError(f"no: {args.value}")


@job("test.gives_up")
def gives_up(context: JobContext, args: Echo) -> None:
    raise Fail(f"for good: {args.value}")


@job("test.cancels_itself")
def cancels_itself(context: JobContext, args: Echo) -> None:
    raise Cancel("not wanted any more")


@job("test.flaky", max_attempts=5, retry=QUICK)
def flaky(context: JobContext, args: Times) -> int:
    """Fails `times` times, then returns the number of the attempt; one line a start in `path`."""
    append(args.path, f"start {context.attempt}")
    if context.failures < args.times:
        raise Retry("again", after=0.05)
    return context.attempt


@job("test.steps", max_attempts=5, retry=QUICK)
def steps(context: JobContext, args: Times) -> list[int]:
    """Two steps, with a failure between them on the first attempt."""

    def one() -> int:
        append(args.path, "one")
        return 1

    first = context.step("one", one)
    if context.failures < args.times:
        raise RuntimeError("between two steps")
    return [first, context.step("two", lambda: 2)]


@job("test.waits", timeout=60)
def waits(context: JobContext, args: Path_) -> str:
    """Runs until its file says so, a cancel is asked for, or the time is over."""
    append(args.path, f"start {context.attempt}")
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        context.check()
        if Path(f"{args.path}.go").exists():
            return "went"
        time.sleep(0.02)
    return "waited"


@job("test.waits_io", queue="io", timeout=60)
async def waits_io(context: AsyncJobContext, args: Path_) -> str:
    append(args.path, f"start {context.attempt}")
    await asyncio.sleep(args.seconds)
    return "waited"


@job("test.too_long", timeout=1, max_attempts=1)
def too_long(context: JobContext, args: Path_) -> None:
    """Longer than its limit; writes down that it was told so."""
    try:
        time.sleep(args.seconds)
    except BaseException as error:
        append(args.path, type(error).__name__)
        raise


@job("test.deaf", timeout=1, max_attempts=1)
def deaf(context: JobContext, args: Path_) -> None:
    """Longer than its limit, whatever it is told."""
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        try:
            time.sleep(args.seconds)
        except BaseException:  # noqa: BLE001 - that is what it is for
            continue


@job("test.dies", max_attempts=5)
def dies(context: JobContext, args: Times) -> int:
    """Kills its own process on the first `times` attempts."""
    append(args.path, f"start {context.attempt}")
    if context.attempt <= args.times:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@job("test.parent")
def parent(context: JobContext, args: Echo) -> str:
    return str(context.submit("test.echo", {"value": args.value}))


@job("test.talks")
def talks(context: JobContext, args: Echo) -> str:
    context.progress(0.25, "a quarter")
    context.log("info", "one line", value=args.value)
    context.progress(0.75)
    context.log("warning", "another")
    return "said"


def append(path: Path, line: str) -> None:
    """One line at the file's end, in one write."""
    with path.open("a") as file:
        file.write(f"{line}\n")
