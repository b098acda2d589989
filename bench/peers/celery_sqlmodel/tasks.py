"""The Celery application and its task: running, the work, done; each a commit."""

import os
from uuid import UUID

from benched import run
from celery import Celery
from models import Job, engine, now
from sqlmodel import Session

app = Celery("tasks", broker=f"{os.environ['BENCH_REDIS']}/0")
app.conf.update(task_ignore_result=True, task_acks_late=True, task_reject_on_worker_lost=True)


@app.task
def run_job(job_id: str) -> None:
    with Session(engine) as session:
        job = session.get_one(Job, UUID(job_id))
        job.status, job.started_at = "running", now()
        session.commit()
        try:
            run(**job.args)
        except Exception as error:
            job.status, job.error, job.finished_at = "failed", str(error), now()
            session.commit()
            raise
        job.status, job.finished_at = "succeeded", now()
        session.commit()
