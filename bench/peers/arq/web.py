"""The API: a job of arq's, and its status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq import create_pool
from arq.jobs import Job
from fastapi import FastAPI, Request
from pydantic import BaseModel
from tasks import redis_settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = await create_pool(redis_settings)
    yield
    await app.state.redis.aclose()


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
async def submit(work: Work, request: Request) -> Answer:
    job = await request.app.state.redis.enqueue_job("run_job", work.token, work.seconds)
    return Answer(id=job.job_id, status="queued")


@app.get("/jobs/{job_id}")
async def show(job_id: str, request: Request) -> Answer:
    status = await Job(job_id, request.app.state.redis).status()
    return Answer(id=job_id, status=status.value)
