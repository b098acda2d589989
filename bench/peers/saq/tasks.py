"""SAQ's worker, on PostgreSQL or Redis: `saq tasks.settings`."""

import os
from typing import Any

from benched import run_async
from redis.asyncio import Redis
from saq import Queue
from saq.queue.redis import RedisQueue

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
SPARE = 50  # connections, of 100 that redis-py opens unless told


def make_queue(url: str) -> Queue:
    if url.startswith("redis:"):
        return RedisQueue(Redis.from_url(url, max_connections=CONCURRENCY + SPARE))
    return Queue.from_url(url)


queue = make_queue(os.environ["BENCH_SAQ"])


async def run_job(_: dict[str, Any], *, token: str, seconds: float) -> None:
    await run_async(token, seconds)


settings = {
    "queue": queue,
    "functions": [run_job],
    "concurrency": CONCURRENCY,
}
