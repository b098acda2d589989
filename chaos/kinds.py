"""The kinds that the load is made of. Each writes its effects, and returns what it was given."""

import asyncio
import contextlib
import os
import signal
import time

from pydantic import BaseModel
from sqlalchemy import text

from chaos.deeds import DO, SAID
from chaos.effects import CLOCK, END, START, STEP, note
from lading import AsyncJobContext, JobContext, Retry, RetryPolicy, job

MEBIBYTE = 1024 * 1024
NOTICED_WITHIN = 30.0  # seconds; much longer than a look at the processes takes
QUICK = RetryPolicy(base=0.2, cap=1)


class Work(BaseModel):
    """What a job of the load does."""

    token: str  #: returned, so that a result can be told from another one's
    ms: float = 20
    steps: int = 0  #: of chaos.steps


class Hunger(Work):
    """Of chaos.hog."""

    times: int = 1


@job("chaos.work", retry=QUICK)
def work(context: JobContext, args: Work) -> str:
    """It takes its time, deaf to everything."""
    note(START, context.job_id, context.attempt)
    time.sleep(args.ms / 1000)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.quick", retry=QUICK)
def quick(context: JobContext, args: Work) -> str:
    """Always so short that a backlog of it is rung for in lists."""
    note(START, context.job_id, context.attempt)
    time.sleep(args.ms / 1000)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.io", queue="io", retry=QUICK)
async def io(context: AsyncJobContext, args: Work) -> str:
    """The same on the threads' event loop."""
    note(START, context.job_id, context.attempt)
    await asyncio.sleep(args.ms / 1000)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.steps", retry=QUICK)
def steps(context: JobContext, args: Work) -> str:
    """A number of steps, each stored when it is done, with progress after it."""
    note(START, context.job_id, context.attempt)

    def one(name: str) -> str:
        time.sleep(args.ms / 1000)
        note(STEP, context.job_id, context.attempt, name)
        return name

    for number in range(1, args.steps + 1):
        name = f"step-{number}"
        assert context.step(name, lambda name=name: one(name)) == name  # type: ignore[misc]
        context.progress(number / args.steps, name)
        context.log("info", "done", step=name)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.say", retry=QUICK)
def say(context: JobContext, args: Work) -> str:
    """Publishes an event with a deed of its own, in one transaction, and then one without."""
    note(START, context.job_id, context.attempt)
    speaker = f"job {args.token}"
    with context.transaction("do") as session:
        first = {"token": f"{args.token}-1", "speaker": speaker, "number": 1}
        session.connection().execute(text(DO), first)
        context.publish(SAID, {**first, "ms": 1})
        time.sleep(args.ms / 1000)
    second = {"token": f"{args.token}-2", "speaker": speaker, "number": 2}
    context.publish(SAID, {**second, "ms": 1}, id="second")
    time.sleep(args.ms / 1000)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.flaky", retry=QUICK)
def flaky(context: JobContext, args: Work) -> str:
    """Fails on its first attempt, and wants the next one a second later."""
    note(START, context.job_id, context.attempt)
    note(CLOCK, context.job_id, context.attempt, f"{time.time():.0f}")
    if context.failures == 0:
        raise Retry("not yet", after=1)
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.poison", retry=QUICK)
def poison(context: JobContext, args: Work) -> str:
    """Kills its own process, on every attempt."""
    note(START, context.job_id, context.attempt)
    context.log("warning", "about to die", attempt=context.attempt)
    time.sleep(args.ms / 1000)
    os.kill(os.getpid(), signal.SIGKILL)
    return args.token


@job("chaos.hog", retry=QUICK, memory_limit="64MiB")
def hog(context: JobContext, args: Hunger) -> str:
    """Takes far more memory than it may, on its first attempts, and keeps it."""
    note(START, context.job_id, context.attempt)
    if context.attempt <= args.times:
        taken = [b"x" * MEBIBYTE for _ in range(256)]
        time.sleep(NOTICED_WITHIN)
        taken.clear()
    note(END, context.job_id, context.attempt)
    return args.token


@job("chaos.overrun", retry=QUICK, timeout=1.5, max_attempts=2)
def overrun(context: JobContext, args: Work) -> str:
    """Longer than its limit, whatever it is told."""
    note(START, context.job_id, context.attempt)
    end = time.monotonic() + args.ms / 1000
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(BaseException):
            time.sleep(left)
    note(END, context.job_id, context.attempt)
    return args.token
