"""The API: a message; whether there is a result is the status."""

from dramatiq.results import ResultMissing
from fastapi import FastAPI
from pydantic import BaseModel
from tasks import results, run_job

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
    return Answer(id=run_job.send(work.token, work.seconds).message_id, status="pending")


@app.get("/jobs/{job_id}")
def show(job_id: str) -> Answer:
    message = run_job.message("", 0.0).copy(message_id=job_id)
    try:
        results.get_result(message)
    except ResultMissing:
        return Answer(id=job_id, status="pending")
    return Answer(id=job_id, status="done")
