"""arq's worker: `arq tasks.WorkerSettings`."""

import os
from typing import Any

from arq.connections import RedisSettings
from benched import run_async

redis_settings = RedisSettings.from_dsn(f"{os.environ['BENCH_REDIS']}/0")

# Warnings alone, like all the peers: two lines for each job would cost more than the job.
LOGGING = {"version": 1, "loggers": {"arq": {"level": "WARNING"}}}


async def run_job(_: dict[str, Any], token: str, seconds: float) -> None:
    await run_async(token, seconds)


class WorkerSettings:
    """With its defaults, 10 jobs at once and a look every 0.5 s, arq makes at most 200 a second."""

    functions = (run_job,)
    redis_settings = redis_settings
    max_jobs = int(os.environ["BENCH_CONCURRENCY"])
    poll_delay = 0.02
