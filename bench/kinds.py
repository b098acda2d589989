"""The same jobs as kinds of ours; see bench/job/benched.py."""

from pydantic import BaseModel

from bench.job.benched import run, run_async
from lading import AsyncJobContext, JobContext, job


class Work(BaseModel):
    """What is asked of a job."""

    token: str = ""
    seconds: float = 0


@job("bench.noop")
def noop(context: JobContext, args: Work) -> None:  # noqa: ARG001 - a handler is given both
    """On processes."""
    run(args.token, args.seconds)


@job("bench.io", queue="io")
async def io(context: AsyncJobContext, args: Work) -> None:  # noqa: ARG001
    """On the threads' event loop."""
    await run_async(args.token, args.seconds)
