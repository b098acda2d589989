"""What readers ask about jobs: one, which of many, its attempts and its log.

Every answer is of one project and comes from one statement. Pages of many are in `jobs.pages`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.errors import JobNotFound
from jobs.ids import first_id
from jobs.models import STATE, Job, JobAttempt
from jobs.states import FINAL, JobState
from jobs.submissions import Concurrency, Submission, Unique
from jobs.views import JobView, job_columns

LAST_LINES = 10  # of an attempt's log, in its story; the whole is in the log
CLOCK_SLACK = timedelta(days=1)  # no submitter's clock is further from the database's


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; what is empty does not narrow it."""

    states: Sequence[JobState] = ()
    kind: str | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    ids: Sequence[UUID] = ()
    schedule_id: UUID | None = None
    batch_id: UUID | None = None
    parent_id: UUID | None = None


class AttemptView(NamedTuple):
    """An attempt; what is not known while it runs is None."""

    attempt: int
    worker: UUID
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    cause: str | None
    error: dict[str, Any] | None
    max_rss_bytes: int | None
    cpu_seconds: float | None
    last_logs: list[dict[str, Any]]  #: at, level and message of its newest lines, oldest first


class LogLine(NamedTuple):
    """A line of a job's log; lines that were written together share the event's `seq`."""

    seq: int
    at: datetime
    attempt: int
    level: str
    message: str
    fields: dict[str, Any]


def _state(state: JobState) -> sa.ColumnElement[Any]:
    """The state in the statement's own text, so that partial indexes are seen."""
    return sa.literal_column(f"'{state}'::job_state", type_=STATE)


_JOB = sa.bindparam("job", type_=sa.Uuid)
_PROJECT = sa.bindparam("project", type_=sa.Text)
_OURS = col(Job.project_id) == _PROJECT
_GET_JOB = sa.select(*job_columns()).where(col(Job.id) == _JOB, _OURS)
_ASKED = (
    *("kind", "args", "queue", "priority", "max_attempts", "timeout_seconds", "labels"),
    *("unique_key", "unique_scope"),
    *("concurrency_key", "concurrency_limit"),
)
_GET_ASKED = sa.select(*(col(getattr(Job, name)) for name in _ASKED)).where(
    col(Job.id) == _JOB, _OURS
)


def get_job(connection: Connection, project_id: str, job_id: UUID) -> JobView:
    """The project's job as it is now. JobNotFound."""
    row = connection.execute(_GET_JOB, {"job": job_id, "project": project_id}).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return JobView._make(row)


def get_submission(
    connection: Connection, project_id: str, job_id: UUID, args: Mapping[str, Any] | None = None
) -> Submission:
    """What was asked for with that job, to ask for it again: secrets included, times left out.

    With `args` instead of the job's own, if given. JobNotFound.
    """
    row = connection.execute(_GET_ASKED, {"job": job_id, "project": project_id}).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    timeout, shared = row.timeout_seconds, row.concurrency_key
    key = row.unique_key
    return Submission(
        kind=row.kind,
        args=row.args if args is None else args,
        queue=row.queue,
        priority=row.priority,
        max_attempts=row.max_attempts,
        timeout=None if timeout is None else timedelta(seconds=timeout),
        labels=row.labels,
        concurrency=None if shared is None else Concurrency(shared, row.concurrency_limit),
        rerun_of=job_id,
        unique=None if key is None else Unique(key, row.unique_scope),
    )


def conditions_of(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    """What the filter says, for a statement about jobs; not which project they are of."""
    equal: dict[Any, Any] = {
        Job.kind: wanted.kind,
        Job.queue: wanted.queue,
        Job.batch_id: wanted.batch_id,
        Job.parent_id: wanted.parent_id,
        Job.schedule_id: wanted.schedule_id,
    }
    conditions: list[sa.ColumnElement[bool]] = [
        col(column) == value for column, value in equal.items() if value is not None
    ]
    if wanted.states:
        states = [_state(state) for state in wanted.states]
        conditions.append(col(Job.state).in_(states))
        if not FINAL & {*wanted.states}:  # as the index of the few among many says it
            conditions.append(col(Job.finished_at).is_(None))
    if wanted.labels:
        conditions.append(col(Job.labels) != sa.literal_column("'{}'::jsonb"))
        conditions.append(sa.cast(col(Job.labels), JSONB).contains(dict(wanted.labels)))
    if wanted.ids:
        conditions.append(col(Job.id).in_(wanted.ids))
    if wanted.created_after is not None:
        conditions.append(col(Job.created_at) > wanted.created_after)
        conditions.append(col(Job.id) >= first_id(wanted.created_after - CLOCK_SLACK))
    if wanted.created_before is not None:
        conditions.append(col(Job.created_at) < wanted.created_before)
        conditions.append(col(Job.id) < first_id(wanted.created_before + CLOCK_SLACK))
    return conditions


def count_children(connection: Connection, project_id: str, job_id: UUID) -> dict[str, int]:
    """How many jobs the job has submitted, by their states as they are now. JobNotFound."""
    _require(connection, project_id, job_id)
    rows = connection.execute(_COUNT_CHILDREN, {"job": job_id})
    return {state: jobs for state, jobs in rows}  # noqa: C416 - a Row is no pair for the type checker


_COUNT_CHILDREN = sa.text("""
SELECT CAST(state AS text), count(*) FROM job WHERE parent_id = :job GROUP BY state
""")
_OF_ATTEMPTS = AttemptView._fields[:-1]
_RUNNING = sa.select(
    col(Job.attempt),
    col(Job.worker),
    col(Job.started_at),
    *(sa.null().label(name) for name in _OF_ATTEMPTS[3:]),
).where(col(Job.id) == _JOB, col(Job.state) == _state(JobState.RUNNING))
_ENDED = sa.select(*(col(getattr(JobAttempt, name)) for name in _OF_ATTEMPTS)).where(
    col(JobAttempt.job_id) == _JOB
)
_EXISTS = sa.select(sa.literal(1)).where(col(Job.id) == _JOB, _OURS)
_ATTEMPTS = _ENDED.union_all(_RUNNING).order_by("attempt")
# Lines are taken out of each attempt's newest events alone, since a log may have 10,000 of them.
_LAST_LINES = sa.text("""
SELECT attempt, CAST(line ->> 'at' AS timestamptz) AS at,
       line ->> 'level' AS level, line ->> 'message' AS message
FROM (
    SELECT attempt, seq, line, number,
           row_number() OVER (PARTITION BY attempt ORDER BY seq DESC, number DESC) AS place
    FROM (
        SELECT attempt, seq, data,
               row_number() OVER (PARTITION BY attempt ORDER BY seq DESC) AS place
        FROM job_event WHERE job_id = :job AND type = 'log'
    ) AS event, jsonb_array_elements(data -> 'lines') WITH ORDINALITY AS each (line, number)
    WHERE event.place <= :count
) AS last WHERE place <= :count
ORDER BY attempt, seq, number
""")


def list_attempts(connection: Connection, project_id: str, job_id: UUID) -> list[AttemptView]:
    """The job's attempts in their order, the running one included. JobNotFound."""
    _require(connection, project_id, job_id)
    rows = [*connection.execute(_ATTEMPTS, {"job": job_id})]
    lines: dict[int, list[dict[str, Any]]] = {row.attempt: [] for row in rows}
    for line in connection.execute(_LAST_LINES, {"job": job_id, "count": LAST_LINES}):
        if line.attempt in lines:  # else it has begun just now
            shown = {"at": line.at, "level": line.level, "message": line.message}
            lines[line.attempt].append(shown)
    return [AttemptView._make((*row, lines[row.attempt])) for row in rows]


_LINES = sa.text("""
SELECT event.seq, CAST(line ->> 'at' AS timestamptz) AS at, event.attempt,
       line ->> 'level' AS level, line ->> 'message' AS message,
       coalesce(line -> 'fields', '{}') AS fields
FROM job_event AS event,
     jsonb_array_elements(event.data -> 'lines') WITH ORDINALITY AS each (line, number)
WHERE event.job_id = :job AND event.type = 'log' AND event.seq > :after
ORDER BY event.seq, each.number
""").columns(fields=JSONB)


def list_log(connection: Connection, project_id: str, job_id: UUID, after: int) -> list[LogLine]:
    """The lines of the job's log events after that `seq`. JobNotFound."""
    _require(connection, project_id, job_id)
    rows = connection.execute(_LINES, {"job": job_id, "after": after})
    return [LogLine._make(row) for row in rows]


def _require(connection: Connection, project_id: str, job_id: UUID) -> None:
    if connection.execute(_EXISTS, {"job": job_id, "project": project_id}).first() is None:
        raise JobNotFound(job_id)
