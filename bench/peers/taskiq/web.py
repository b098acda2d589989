"""The API: a message; whether there is a result is the status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel
from tasks import broker, results, run_job


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


class Work(BaseModel):
    """What is asked of a job."""

    token: str = ""
    seconds: float = 0


class Answer(BaseModel):
    """A job as its caller sees it."""

    id: str
    status: str


@app.post("/jobs", status_code=202)
async def submit(work: Work) -> Answer:
    task = await run_job.kiq(work.token, work.seconds)
    return Answer(id=task.task_id, status="pending")


@app.get("/jobs/{job_id}")
async def show(job_id: str) -> Answer:
    is_ready = await results.is_result_ready(job_id)
    return Answer(id=job_id, status="done" if is_ready else "pending")
