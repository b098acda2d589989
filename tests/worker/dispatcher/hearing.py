"""A worker in a thread: hears bells, claims what they name, and reports success at once."""

import threading
from collections import Counter
from typing import Any, Self
from uuid import UUID, uuid4

from kombu import Connection
from sqlalchemy import Engine

from jobs import broker, lifecycle
from jobs.broker import Broker
from jobs.database import autocommit
from jobs.errors import LeaseLost
from jobs.settings import Settings

_AT_ONCE = 0.01  # seconds: 0 would wait for ever


def pop(bells: Broker, queue: str, count: int = 1) -> list[tuple[UUID, int]]:
    """At most so many attempts, taken as a worker does: with one question for all priorities."""
    taken: list[tuple[UUID, int]] = []
    redis: Any = bells._redis
    keys = broker.lists_of(queue)
    while len(taken) < count and (found := redis.brpop(keys, timeout=_AT_ONCE)):
        bell = broker.read_bell(found[1])
        taken += bell.attempts if bell is not None else ()
    return taken


class Hearer:
    """As a context manager: does every job of the queue."""

    def __init__(self, settings: Settings, engine: Engine, queue: str) -> None:
        self.heard: Counter[tuple[UUID, int]] = Counter()
        self.refused = 0
        self._settings, self._engine, self._queue = settings, engine, queue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        url = self._settings.broker_url.get_secret_value()
        options = broker.transport_options()
        with (
            autocommit(self._engine).connect() as connection,
            Connection(url, transport_options=options) as way,
        ):
            channel: Any = way.channel()
            while not self._stopping.is_set():
                message = channel.basic_get(self._queue, no_ack=True)
                if message is None:
                    self._stopping.wait(0.005)
                    continue
                for job_id, attempt in broker.read_attempts(message.payload[0]):
                    self.heard[job_id, attempt] += 1
                    self._do(connection, job_id, attempt)

    def _do(self, connection: Any, job_id: UUID, attempt: int) -> None:
        try:
            lifecycle.start(
                connection, job_id, attempt=attempt, worker=uuid4(), lease=self._settings.lease
            )
            lifecycle.succeed(connection, job_id, attempt=attempt, result=None)
        except LeaseLost:
            self.refused += 1
