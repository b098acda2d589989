"""A bench: single attempts of handlers that a test has written, and handlers with a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic import BaseModel, SecretStr

from jobs import lifecycle
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import NewJob
from lading import AsyncJobContext, JobContext, RetryPolicy, job
from lading.authoring import find_kind
from tests.api.relay import Relay, relay
from tests.worker import blocks
from tests.worker.attempting import make
from tests.worker.blocks import first
from tests.worker.platform import Platform
from worker.board import ThreadBoard
from worker.outcomes import Ended
from worker.runtime import Runtime
from worker.sessions import Sessions

SOON = 20  # seconds; for what takes milliseconds


class Nothing(BaseModel):
    pass


class Bench:
    """Makes single attempts of handlers that a test has written, over a line that may break."""

    def __init__(self, runtime: Runtime, platform: Platform, line: Relay) -> None:
        self.runtime, self.platform, self.line = runtime, platform, line

    def submit(self, handler: Callable[..., Any], **options: Any) -> NewJob:
        made = job("block.tried", retry=RetryPolicy(base=0, cap=0), **options)(handler)
        kind = find_kind(made)
        assert kind is not None
        known = {**load_registry(["tests.kinds_for_tests"]), kind.name: kind}
        self.runtime.registry = self.platform.registry = Registry(known.values())
        return self.platform.submit("block.tried")

    def attempt(self, job: NewJob, number: int = 1) -> Ended:
        if self.platform.row(job).state is JobState.RETRYING:
            with self.platform.engine.begin() as connection:
                lifecycle.run_now(connection, "default", job.id)
        ended = make(self.runtime, job, number)
        assert ended is not None
        return ended

    def run(self, handler: Callable[..., Any], **options: Any) -> tuple[NewJob, Ended]:
        job = self.submit(handler, **options)
        return job, self.attempt(job)

    def payments(self, job: NewJob) -> list[str]:
        statement = sa.text("SELECT line FROM shop.payment WHERE job_id = :job ORDER BY line")
        with self.platform.engine.connect() as connection:
            return [*connection.scalars(statement, {"job": job.id})]

    def steps(self, job: NewJob) -> list[tuple[str, int]]:
        statement = sa.text("SELECT name, attempt FROM job_step WHERE job_id = :job ORDER BY name")
        with self.platform.engine.connect() as connection:
            return [
                (row.name, row.attempt) for row in connection.execute(statement, {"job": job.id})
            ]

    def children(self, job: NewJob) -> list[UUID]:
        statement = sa.text("SELECT id FROM job WHERE parent_id = :job")
        with self.platform.engine.connect() as connection:
            return [*connection.scalars(statement, {"job": job.id})]

    def transactions(self) -> int:
        """How many blocks PostgreSQL has open."""
        statement = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'lading block' AND xact_start IS NOT NULL"
        )
        with self.platform.engine.connect() as connection:
            count: int = connection.execute(statement).scalar_one()
        return count

    def shorten_the_lease(self) -> None:
        settings = self.runtime.settings.model_copy(update={"lease_seconds": 2})
        self.runtime.sessions = Sessions(settings, 1)

    def take_over(self, job: NewJob) -> None:
        """Another worker holds the job, as its second attempt."""
        lease = self.runtime.settings.lease
        with self.platform.engine.begin() as connection:
            lifecycle.crash(connection, job.id, attempt=1, detail="so it seemed")
            lifecycle.start(connection, job.id, attempt=2, worker=uuid4(), lease=lease)


@contextmanager
def set_up(settings: Settings, platform: Platform, port: int) -> Iterator[Bench]:
    """A bench on the platform's database, behind a line of its own to that port."""
    platform.execute(blocks.TABLE)
    with relay(port) as line:
        url = settings.database_url.get_secret_value().replace(f":{port}/", f":{line.port}/")
        own = settings.model_copy(update={"database_url": SecretStr(url)})
        runtime = Runtime(own, platform.registry, uuid4(), ThreadBoard(), forked=False)
        yield Bench(runtime, platform, line)
        runtime.hints.close()
        runtime.engine.dispose()
        runtime.sessions.dispose()


Inside = Callable[[], None]
Handler = Callable[[Any, Any], Any]


def paying(inside: Inside = lambda: None, after: Inside = lambda: None) -> Handler:
    """A `def` handler that pays in a block, and does more in it and after it."""

    def handler(context: JobContext, args: Nothing) -> str:
        with context.transaction("pay") as session:
            session.connection().execute(first(context.job_id))
            inside()
        after()
        return "paid"

    return handler


def paying_async(inside: Inside = lambda: None, after: Inside = lambda: None) -> Handler:
    """The same with `async def`."""

    async def handler(context: AsyncJobContext, args: Nothing) -> str:
        async with context.transaction("pay") as session:
            await (await session.connection()).execute(first(context.job_id))
            inside()
        after()
        return "paid"

    return handler


class Once:
    """Raises on its first call, and counts them."""

    def __init__(self, times: int = 1) -> None:
        self.calls, self._times = 0, times

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self._times:
            raise RuntimeError("not yet")
