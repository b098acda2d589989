"""taskiq's broker, the one that acknowledges, and its task: `taskiq worker tasks:broker`."""

import os

from benched import run_async
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["BENCH_REDIS"]
TASKS = 1000  # each of them may hold a connection; redis-py opens 100 unless told
results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(
    f"{URL}/1", result_ex_time=24 * 3600, max_connection_pool_size=TASKS
)
broker = RedisStreamBroker(
    f"{URL}/0", consumer_id="0", max_connection_pool_size=TASKS
).with_result_backend(results)


@broker.task
async def run_job(token: str, seconds: float) -> None:
    await run_async(token, seconds)
