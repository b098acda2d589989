"""The API: a job of SAQ's, and its status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from tasks import queue


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


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
    # `retries`: without it a job that a dead worker held is not made again.
    job = await queue.enqueue("run_job", token=work.token, seconds=work.seconds, retries=3)
    assert job is not None
    return Answer(id=job.key, status=job.status)


@app.get("/jobs/{job_id}")
async def show(job_id: str) -> Answer:
    job = await queue.job(job_id)
    if job is None:
        raise HTTPException(404)
    return Answer(id=job.key, status=job.status)
