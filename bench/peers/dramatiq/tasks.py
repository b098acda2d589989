"""dramatiq's broker, results and actor: `dramatiq tasks`."""

import os

import dramatiq
from benched import run
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_REDIS"]
results = RedisBackend(url=f"{URL}/1")
broker = RedisBroker(url=f"{URL}/0")
broker.add_middleware(Results(backend=results, result_ttl=24 * 3600 * 1000))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def run_job(token: str, seconds: float) -> None:
    run(token, seconds)
