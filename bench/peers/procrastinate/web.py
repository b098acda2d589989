"""The API: a row of Procrastinate's, and its status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel
from tasks import app as procrastinate
from tasks import run_job


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with procrastinate.open_async():
        yield


app = FastAPI(lifespan=lifespan)


class Work(BaseModel):
    """What is asked of a job."""

    token: str = ""
    seconds: float = 0


class Answer(BaseModel):
    """A job as its caller sees it."""

    id: int
    status: str


@app.post("/jobs", status_code=202)
async def submit(work: Work) -> Answer:
    job_id = await run_job.defer_async(token=work.token, seconds=work.seconds)
    return Answer(id=job_id, status="todo")


@app.get("/jobs/{job_id}")
async def show(job_id: int) -> Answer:
    status = await procrastinate.job_manager.get_job_status_async(job_id)
    return Answer(id=job_id, status=status.value)
