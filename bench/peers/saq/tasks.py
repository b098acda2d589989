"""SAQ's worker, on PostgreSQL or Redis: `saq tasks.settings`."""

import os
from typing import Any

from benched import run_async
from saq import Queue

queue = Queue.from_url(os.environ["BENCH_SAQ"])


async def run_job(_: dict[str, Any], *, token: str, seconds: float) -> None:
    await run_async(token, seconds)


settings = {
    "queue": queue,
    "functions": [run_job],
    "concurrency": int(os.environ["BENCH_CONCURRENCY"]),
}
