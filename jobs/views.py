"""A job, an event, an attempt as readers see them: the columns that are shown, in one order."""

import json
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from jobs.models import Job
from jobs.states import JobState

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class JobView(NamedTuple):
    """A row of `job` without what is nobody's business: secrets, bells, leases."""

    id: UUID
    kind: str
    state: JobState
    queue: str
    priority: int
    args: dict[str, Any] | None  #: None where a list leaves it out
    result: Any
    error: dict[str, Any] | None
    progress: dict[str, Any] | None
    attempt: int
    failures: int
    crashes: int
    max_attempts: int
    labels: dict[str, str]
    seq: int
    cancel_requested: bool
    created_at: datetime
    run_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    parent_id: UUID | None
    rerun_of: UUID | None
    schedule_id: UUID | None
    concurrency_key: str | None
    concurrency_limit: int | None
    unique_key: str | None
    unique_scope: str | None
    after: list[UUID] | None
    batch_id: UUID | None


class EventView(NamedTuple):
    """One line of a job's history."""

    job_id: UUID
    seq: int
    type: str
    at: datetime
    attempt: int
    data: dict[str, Any]

    def json(self) -> str:
        """The Event of the contract, without line breaks: how it goes out, and into hints."""
        data = _ENCODER.encode(self.data) if self.data else "{}"
        return f'{self._start()},"data":{data}}}'

    def json_without_data(self) -> str:
        """The same, for those who will read the data elsewhere."""
        return f"{self._start()}}}"

    def _start(self) -> str:
        at = self.at.isoformat().replace("+00:00", "Z")
        return (
            f'{{"job_id":"{self.job_id}","seq":{self.seq},"type":"{self.type}"'
            f',"at":"{at}","attempt":{self.attempt}'
        )


def job_columns(*, full: bool = True) -> list[sa.ColumnElement[Any]]:
    """The columns of a JobView, in its order; without `full`, args and result are NULL."""
    shown: dict[str, sa.ColumnElement[Any]] = {
        "args": sa.func.coalesce(col(Job.redacted_args), col(Job.args)) if full else sa.null(),
    }
    if not full:
        shown["result"] = sa.null()
    return [shown.get(name, col(getattr(Job, name))).label(name) for name in JobView._fields]
