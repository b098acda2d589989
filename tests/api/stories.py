"""Jobs that live through something, committed, and told by hints or not."""

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import Engine

from jobs import database, lifecycle
from jobs.attempts import Cause, Error
from jobs.hints import EVENTS, Hints, Told
from jobs.lifecycle import Moved
from jobs.states import JobState
from tests.jobs.making import LEASE, PROJECT, WORKER, make_job

ERROR = Error(Cause.FAIL, "Fail", "no")


@dataclass
class Story:
    """Commits one move after another; threads may share it. `told` are the moves so far."""

    engine: Engine
    hints: Hints | None = None
    told: dict[UUID, list[Moved]] = field(default_factory=dict)

    def begin(self) -> UUID:
        """A job that runs its first attempt; its only event so far is `created`."""
        with database.autocommit(self.engine).connect() as connection:
            job_id = make_job(connection, JobState.RUNNING)
        self.told[job_id] = []
        return job_id

    def progress(self, job_id: UUID, times: int = 1, message: str | None = None) -> None:
        for step in range(times):
            facts = {"fraction": step / times, "message": message}
            self._do("record_progress", job_id, attempt=1, **facts)

    def log(self, job_id: UUID, *messages: str) -> None:
        lines = [{"level": "info", "message": message} for message in messages]
        self._do("record_log", job_id, attempt=1, lines=lines)

    def succeed(self, job_id: UUID, attempt: int = 1) -> None:
        self._do("succeed", job_id, attempt=attempt, result=None)

    def fail(self, job_id: UUID, attempt: int = 1) -> None:
        self._do("fail", job_id, attempt=attempt, error=ERROR)

    def retry(self, job_id: UUID) -> None:
        with database.autocommit(self.engine).connect() as connection:
            self._tell(lifecycle.retry(connection, PROJECT, job_id))

    def start(self, job_id: UUID, attempt: int) -> None:
        with database.autocommit(self.engine).connect() as connection:
            claim = lifecycle.start(connection, job_id, attempt=attempt, worker=WORKER, lease=LEASE)
            self._tell(Moved._make(claim[: len(Moved._fields)]))

    def _do(self, move: str, job_id: UUID, **facts: Any) -> None:
        with database.autocommit(self.engine).connect() as connection:
            self._tell(getattr(lifecycle, move)(connection, job_id, **facts))

    def _tell(self, moved: Moved) -> None:
        self.told[moved.id].append(moved)
        if self.hints is not None:
            self.hints.tell([moved])


class BadHints(Hints):
    """Loses some, doubles some, and tells the rest in any order."""

    def __init__(self, broker_url: str, seed: int, *, lost: float) -> None:
        super().__init__(broker_url)
        self._random, self._lost = random.Random(seed), lost
        self._lock, self._held = threading.Lock(), list[Any]()

    def tell(
        self, events: Iterable[Told], *, queues: Iterable[str] = (), more_follow: bool = False
    ) -> None:
        with self._lock:
            for event in events:
                copies = self._random.choice([1, 1, 2]) if self._random.random() > self._lost else 0
                self._held.extend([event] * copies)
            self._random.shuffle(self._held)
            told = [self._held.pop() for _ in range(len(self._held) // 2)]
        super().tell(told, queues=queues, more_follow=more_follow)


@contextmanager
def telling(broker_url: str) -> Iterator[Hints]:
    sender = Hints(broker_url)
    try:
        yield sender
    finally:
        sender.close()


def listeners(broker_url: str) -> int:
    """How many subscriptions hear hints."""
    with redis.Redis.from_url(broker_url) as client:
        ((_, count),) = client.pubsub_numsub(EVENTS)
        return int(count)
