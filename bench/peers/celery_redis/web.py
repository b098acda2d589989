"""The API: a message; its result is the status."""

from fastapi import FastAPI
from pydantic import BaseModel
from tasks import run_job

app = FastAPI()


class Work(BaseModel):
    """What is asked of a job."""

    token: str = ""
    seconds: float = 0


class Answer(BaseModel):
    """A job as its caller sees it."""

    id: str
    status: str


@app.post("/jobs", status_code=202)
def submit(work: Work) -> Answer:
    return Answer(id=run_job.delay(work.token, work.seconds).id, status="PENDING")


@app.get("/jobs/{job_id}")
def show(job_id: str) -> Answer:
    return Answer(id=job_id, status=run_job.AsyncResult(job_id).status)
