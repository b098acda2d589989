"""Deleting a job for good; the accounts know of it."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.errors import InvalidTransition, JobNotFound
from jobs.models import Job
from jobs.states import FINAL

_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
#: Follows a CTE `removed` with the ids of the jobs that the same statement deletes.
COUNTED = """
counted AS (
    INSERT INTO intake_total (process_id, bucket, removed)
    SELECT CAST(:process_id AS uuid), left(CAST(id AS text), 8) AS bucket, count(*)
    FROM removed GROUP BY bucket ORDER BY bucket
    ON CONFLICT (bucket, process_id)
    DO UPDATE SET removed = intake_total.removed + excluded.removed
)
"""
# One statement: the job, what belongs to it, and the count go together; and whoever waits for it is
# told how it ended, if the dispatcher has not come to that.
_DELETE = sa.text(f"""
WITH removed AS (
    DELETE FROM job WHERE id = :job AND project_id = :project AND state IN ({_FINAL})
    RETURNING id, CAST(state AS text) = 'succeeded' AS is_success
),
known AS (
    DELETE FROM job_dependency USING removed WHERE parent_id = removed.id
    RETURNING job_id, is_success OR any_end AS is_success
),
changed AS (
    UPDATE job
    SET parents_left = CASE WHEN is_success AND parents_left > 0 THEN parents_left - 1 ELSE -1 END
    FROM known WHERE job.id = known.job_id AND CAST(job.state AS text) = 'waiting'
),
{COUNTED}
SELECT count(*) FROM removed
""")  # noqa: S608 - names of states only; every value is bound


def delete_job(connection: Connection, project_id: str, job_id: UUID, *, process_id: UUID) -> None:
    """The job, its events, attempts and steps are gone; its idempotency key remembers it.

    InvalidTransition unless it has ended; JobNotFound. Locks the process's row of intake_total.
    """
    binds = {"job": job_id, "project": project_id, "process_id": process_id}
    if connection.execute(_DELETE, binds).scalar_one():
        return
    statement = sa.select(col(Job.state)).where(
        col(Job.id) == job_id, col(Job.project_id) == project_id
    )
    state = connection.execute(statement).scalar_one_or_none()
    if state is None:
        raise JobNotFound(job_id)
    raise InvalidTransition(job_id, state, "delete")
