"""A live job's priority: no move, for its state stays, but an event like any other change."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.errors import InvalidTransition, JobNotFound
from jobs.lifecycle.statements import Moved
from jobs.models import STATE
from jobs.states import FINAL, JobState

_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
# Names of states only; every value is bound.
_REPRIORITISE = sa.text(f"""
WITH moved AS (
    UPDATE job SET priority = :priority, seq = seq + 1
    WHERE id = :job AND project_id = :project AND priority <> :priority
      AND CAST(state AS text) NOT IN ({_FINAL})
    RETURNING *, clock_timestamp() AS at,
              jsonb_build_object('priority', priority, 'state', state) AS data
),
logged AS (
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    SELECT id, seq, 'reprioritised', at, attempt, data FROM moved
)
SELECT id, project_id, queue, state, attempt, cancel_requested, seq,
       'reprioritised' AS type, at, data
FROM moved
""").columns(state=STATE, data=JSONB)  # noqa: S608 - see above
_STATE = sa.text("SELECT state FROM job WHERE id = :job AND project_id = :project").columns(
    state=STATE
)


def reprioritise(
    connection: Connection, project_id: str, job_id: UUID, priority: int
) -> Moved | None:
    """The job has that priority (0 … 9, 9 first); None: it had it already.

    It counts when the job is picked next: one whose doorbell is out keeps its place.
    InvalidTransition when it has ended; JobNotFound.
    """
    binds = {"job": job_id, "project": project_id}
    row = connection.execute(_REPRIORITISE, {**binds, "priority": priority}).one_or_none()
    if row is not None:
        return Moved._make(row)
    state: JobState | None = connection.execute(_STATE, binds).scalar_one_or_none()
    if state is None:
        raise JobNotFound(job_id)
    if state in FINAL:
        raise InvalidTransition(job_id, state, "reprioritise")
    return None
