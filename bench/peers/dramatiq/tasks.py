"""dramatiq's broker, results and actor: `dramatiq tasks`."""

import os

import dramatiq
from benched import run
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

THREADS = 1000  # each of them may hold a connection; redis-py opens 100 unless told


def connect(database: int) -> Redis:
    return Redis.from_url(f"{os.environ['BENCH_REDIS']}/{database}", max_connections=THREADS)


results = RedisBackend(client=connect(1))
broker = RedisBroker(client=connect(0))
broker.add_middleware(Results(backend=results, result_ttl=24 * 3600 * 1000))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def run_job(token: str, seconds: float) -> None:
    run(token, seconds)
