"""The Celery application with results in Redis."""

import os

from benched import run
from celery import Celery

URL = os.environ["BENCH_REDIS"]
app = Celery("tasks", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)


@app.task
def run_job(token: str, seconds: float) -> None:
    run(token, seconds)
