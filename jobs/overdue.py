"""Whether everything that has not ended is alive: will go on, with somebody who sees to it.

What is queued waits for a worker, for however long. All else has a time by which a worker or the
dispatcher must have moved it on. They can only while they are there: the time begins anew when
PostgreSQL or the dispatchers come back, as it does for `rescue`, and without a dispatcher that is
alive nothing is overdue.
"""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

GRACE = 2  # leases; a dispatcher that is alive needs a sixth of one, and a second for what is due


REASONS = ("lease_ran_out", "not_released", "not_expired", "waits_for_nothing")


class Overdue(NamedTuple):
    """Jobs that ought to have gone on by now."""

    reason: str
    jobs: int
    first: UUID  #: one of them


def find_overdue(
    connection: Connection, lease: timedelta, since: datetime | None = None
) -> list[Overdue]:
    """What is overdue by more than GRACE, by reason.

    There have been dispatchers without interruption `since` then; None: since the oldest that is
    alive began. One statement; it reads the running jobs, and of the others only what is overdue.
    """
    binds = {"lease": lease, "grace": GRACE * lease, "since": since}
    return [Overdue._make(row) for row in connection.execute(_OVERDUE, binds)]


# A `waiting` job is let go by the jobs that it waits for; that some would be is not built yet.
_OVERDUE = sa.text("""
WITH RECURSIVE able AS MATERIALIZED (
    SELECT greatest(pg_postmaster_start_time(), CAST(:since AS timestamptz), min(started_at))
               AS since,
           clock_timestamp() - CAST(:grace AS interval) AS before
    FROM dispatcher WHERE seen_at > clock_timestamp() - CAST(:lease AS interval)
    HAVING count(*) > 0
),
project AS (
    (SELECT project_id FROM job WHERE finished_at IS NULL ORDER BY project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT job.project_id FROM job
            WHERE finished_at IS NULL AND job.project_id > project.project_id
            ORDER BY job.project_id LIMIT 1)
    FROM project WHERE project.project_id IS NOT NULL
),
late AS (
    SELECT 'lease_ran_out' AS reason, id FROM job
    WHERE state = 'running' AND lease_until < (SELECT before FROM able)
      AND (SELECT since + CAST(:lease AS interval) < before FROM able)
    UNION ALL
    SELECT 'not_released', id FROM job
    WHERE state IN ('scheduled', 'retrying') AND run_at < (SELECT before FROM able)
      AND (SELECT since < before FROM able)
    UNION ALL
    SELECT 'not_expired', id FROM job
    WHERE expires_at IS NOT NULL AND finished_at IS NULL AND attempt = 0
      AND expires_at < (SELECT before FROM able) AND (SELECT since < before FROM able)
    UNION ALL
    SELECT 'waits_for_nothing', job.id
    FROM project JOIN job ON job.project_id = project.project_id
    WHERE job.finished_at IS NULL AND job.state = 'waiting'
)
SELECT reason, count(*) AS jobs, CAST(min(CAST(id AS text)) AS uuid) AS first
FROM late GROUP BY reason ORDER BY reason
""")
