"""The API: a row, a commit, a message."""

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from models import Job, engine
from pydantic import BaseModel
from sqlmodel import Session
from tasks import run_job

app = FastAPI()


class Work(BaseModel):
    """What is asked of a job."""

    token: str = ""
    seconds: float = 0


class Answer(BaseModel):
    """A job as its caller sees it."""

    id: UUID
    status: str


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


SessionNeeded = Annotated[Session, Depends(get_session)]


@app.post("/jobs", status_code=202)
def submit(work: Work, session: SessionNeeded) -> Answer:
    job = Job(kind="run", args=work.model_dump())
    session.add(job)
    session.commit()
    session.refresh(job)
    run_job.delay(str(job.id))
    return Answer(id=job.id, status=job.status)


@app.get("/jobs/{job_id}")
def show(job_id: UUID, session: SessionNeeded) -> Answer:
    job = session.get(Job, job_id)
    if job is None:
        raise HTTPException(404)
    return Answer(id=job.id, status=job.status)
