"""A single connection to Redis, for who speaks its protocol without a client."""

from typing import Any

import redis


def redis_connection(broker_url: str, *, within: float, **options: Any) -> Any:
    """One that is not open yet; RESP 2. `within`: seconds for it to open, and for each answer.

    Of a pool of its own, for that knows what stands in the URL, and makes a hundred at most.
    """
    pool = redis.ConnectionPool.from_url(
        broker_url, socket_timeout=within, socket_connect_timeout=within, protocol=2, **options
    )
    return pool.make_connection()
