"""PgQueuer's factory, and its one entry point."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from benched import run_async
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer

URL = os.environ["BENCH_POSTGRES"]


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    async with asyncpg.create_pool(URL, min_size=2, max_size=10) as pool:
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint("run")
        async def run_job(job: Job) -> None:
            await run_async(**json.loads(job.payload or b"{}"))

        yield queue
