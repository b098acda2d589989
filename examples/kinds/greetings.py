"""A kind of your own, in one file. How it is started stands in CONTRIBUTING.md."""

from functools import partial

from pydantic import BaseModel, Field

from lading import JobContext, RetryPolicy, job


class GreetArgs(BaseModel):
    """What a submission has to bring; anything else is refused with 422."""

    names: list[str] = Field(min_length=1, max_length=100)


class GreetResult(BaseModel):
    """What readers of the job get."""

    greetings: list[str]


@job("example.greet", max_attempts=3, timeout=60, retry=RetryPolicy(base=1, cap=60))
def greet(context: JobContext, args: GreetArgs) -> GreetResult:
    """One greeting a name; a later attempt goes on after the last one that was stored."""
    greetings = []
    for number, name in enumerate(args.names, start=1):
        greetings.append(context.step(f"greet {number}", partial("Hello {}!".format, name)))
        context.progress(number / len(args.names), f"greeted {name}")
    context.log("info", "all greeted", count=len(greetings))
    return GreetResult(greetings=greetings)
