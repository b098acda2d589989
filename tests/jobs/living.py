"""Jobs that have lived: submitted, attempted, asked for and ended as the platform does it."""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection

from jobs import lifecycle, removal
from jobs.attempts import Cause, Error
from jobs.enqueue import Intake, enqueue
from jobs.errors import JobsError
from jobs.ids import uuid7
from jobs.registry import load_registry
from jobs.submissions import Submission, check
from tests.jobs.making import PROJECT, WORKER, read_job

REGISTRY = load_registry(("tests.kinds_for_tests",))
PROCESS = uuid4()
ERROR = Error(Cause.EXCEPTION, "ValueError", "no")
SOON = timedelta(milliseconds=1)
LEASE = timedelta(hours=1)  # longer than any module's tests


def submit(
    connection: Connection, count: int = 1, ago: timedelta = timedelta(0), **options: Any
) -> list[UUID]:
    """New jobs, counted as the platform counts them; their ids say that they were made `ago`."""
    asked = Submission(kind="test.echo", args={}, **options)
    earlier = int(ago / timedelta(milliseconds=1)) << 80
    ids = [UUID(int=uuid7().int - earlier) for _ in range(count)]
    new = [check(REGISTRY, asked, job_id=job_id) for job_id in ids]
    enqueue(connection, [Intake(PROJECT, new)], process_id=PROCESS)
    return [job.id for job in new]


def claim(connection: Connection, job_id: UUID) -> int:
    """The job runs; the number of its attempt."""
    attempt = read_job(connection, job_id).attempt + 1
    lifecycle.start(connection, job_id, attempt=attempt, worker=WORKER, lease=LEASE)
    return int(attempt)


def succeed(connection: Connection, job_id: UUID) -> None:
    lifecycle.succeed(connection, job_id, attempt=claim(connection, job_id), result=1)


def fail(connection: Connection, job_id: UUID) -> None:
    lifecycle.fail(connection, job_id, attempt=claim(connection, job_id), error=ERROR)


def remove(connection: Connection, job_id: UUID) -> None:
    removal.delete_job(connection, PROJECT, job_id, process_id=PROCESS)


REPORTS: list[Callable[..., Any]] = [
    partial(lifecycle.record_progress, fraction=0.5, message=None),
    partial(lifecycle.record_log, lines=[{"message": "one"}]),
    partial(lifecycle.succeed, result=None),
    partial(lifecycle.retry_later, error=ERROR, delay=SOON),
    partial(lifecycle.fail, error=ERROR),
    partial(lifecycle.crash, detail="signal 9"),
    partial(lifecycle.interrupt, reason="deploy"),
    partial(lifecycle.cancel_running, reason="test"),
]


def live(connection: Connection, job_id: UUID, chance: random.Random) -> None:
    """Something that may happen to the job happens to it, or is refused; the steps are numbered."""
    attempt = read_job(connection, job_id).attempt
    name = f"step {chance.random()}"
    step: Callable[..., Any] = partial(lifecycle.record_step, name=name, result=1)
    claim_next = partial(lifecycle.start, attempt=attempt + 1, worker=WORKER, lease=LEASE)
    asked: list[Callable[..., Any]] = [
        lambda c, job: lifecycle.retry(c, PROJECT, job),
        lambda c, job: lifecycle.run_now(c, PROJECT, job),
        lambda c, job: lifecycle.cancel(c, PROJECT, job, "test"),
        *[claim_next] * 6,
        *[partial(report, attempt=attempt) for report in [*REPORTS, step]],
    ]
    try:
        chance.choice(asked)(connection, job_id)
    except JobsError:
        return
