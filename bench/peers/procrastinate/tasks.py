"""Procrastinate's application: `procrastinate --app tasks.app worker`."""

import os

from benched import run_async
from procrastinate import App, PsycopgConnector, RetryStrategy

app = App(
    connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"], min_size=4, max_size=20)
)


@app.task(name="run", retry=RetryStrategy(max_attempts=3))
async def run_job(token: str, seconds: float) -> None:
    await run_async(token, seconds)
