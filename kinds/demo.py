"""demo.sleep: a job that takes a known time, shows its progress and can be cancelled meanwhile."""

import time

from pydantic import BaseModel, ConfigDict, Field

from lading import JobContext, job

SLICE = 0.5  # seconds; so soon is a cancel noticed
LONGEST = 24 * 3600  # seconds
MOST_STEPS = 1000  # each of them may become an event


class SleepArgs(BaseModel):
    """How long, and in how many steps."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"seconds": 5, "steps": 10}]}
    )

    seconds: float = Field(ge=0, le=LONGEST, description="The whole time, in seconds")
    steps: int = Field(
        default=10, ge=1, le=MOST_STEPS, description="Progress is reported after each of them"
    )


class SleepResult(BaseModel):
    """How long it was."""

    slept: float = Field(description="Seconds, as asked for")


@job("demo.sleep")
def sleep(context: JobContext, args: SleepArgs) -> SleepResult:
    """Sleep, and report progress after each step."""
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        _sleep_until(context, start + args.seconds * step / args.steps)
        context.progress(step / args.steps, f"step {step} of {args.steps}")
    return SleepResult(slept=args.seconds)


def _sleep_until(context: JobContext, end: float) -> None:
    """It is `end` by the monotonic clock; JobCancelled within one slice when it is asked for."""
    context.check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, SLICE))
        context.check()
