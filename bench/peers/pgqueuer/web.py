"""The API: a row of PgQueuer's; the newest entry of its log is the status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException, Request
from pgqueuer import AsyncpgPoolDriver, Queries
from pydantic import BaseModel
from tasks import URL


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(URL, min_size=4, max_size=20) as pool:
        app.state.queries = Queries(AsyncpgPoolDriver(pool))
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
async def submit(work: Work, request: Request) -> Answer:
    queries: Queries = request.app.state.queries
    [job_id] = await queries.enqueue("run", work.model_dump_json().encode())
    assert job_id is not None
    return Answer(id=job_id, status="queued")


@app.get("/jobs/{job_id}")
async def show(job_id: int, request: Request) -> Answer:
    queries: Queries = request.app.state.queries
    found = await queries.job_status([job_id])
    if not found:
        raise HTTPException(404)
    return Answer(id=job_id, status=found[0][1])
