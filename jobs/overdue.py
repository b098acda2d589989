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


# A `waiting` job has an unfinished parent or batch, or a time to come; else it is moved on within
# moments of the last of them, which is why the times of these are looked at.
_OVERDUE = sa.text("""
WITH able AS MATERIALIZED (
    SELECT greatest(pg_postmaster_start_time(), CAST(:since AS timestamptz), min(started_at))
               AS since,
           clock_timestamp() - CAST(:grace AS interval) AS before
    FROM dispatcher WHERE seen_at > clock_timestamp() - CAST(:lease AS interval)
    HAVING count(*) > 0
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
    SELECT 'waits_for_nothing', id FROM job
    WHERE state = 'waiting' AND parents_left <= 0 AND created_at < (SELECT before FROM able)
      AND (run_at IS NULL OR run_at < (SELECT before FROM able))
      AND NOT EXISTS (SELECT FROM job AS parent WHERE parent.id = ANY (job.after)
                      AND parent.finished_at >= (SELECT before FROM able))
      AND (after IS NOT NULL OR NOT EXISTS (
          SELECT FROM batch WHERE job.id IN (on_complete, on_success)
                      AND batch.finished_at >= (SELECT before FROM able)))
      AND (SELECT since < before FROM able)
    UNION ALL
    SELECT 'waits_for_nothing', tie.job_id
    FROM job AS parent JOIN job_dependency AS tie ON tie.parent_id = parent.id
    WHERE parent.is_awaited AND parent.finished_at IS NOT NULL
      AND parent.finished_at < (SELECT before FROM able) AND (SELECT since < before FROM able)
    UNION ALL
    SELECT 'waits_for_nothing', tie.job_id
    FROM job_dependency AS tie
    JOIN job ON job.id = tie.job_id AND job.created_at < (SELECT before FROM able)
    JOIN job AS parent ON parent.id = tie.parent_id
    WHERE NOT tie.is_told AND parent.finished_at < (SELECT before FROM able)
      AND (SELECT since < before FROM able)
    UNION ALL
    SELECT 'waits_for_nothing', tie.job_id
    FROM batch JOIN job_dependency AS tie ON tie.parent_id = batch.id
    WHERE batch.finished_at IS NULL AND NOT is_open AND created_at < (SELECT before FROM able)
      AND NOT EXISTS (
          SELECT FROM job WHERE batch_id = batch.id
          AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying'))
      AND NOT EXISTS (
          SELECT FROM job WHERE batch_id = batch.id AND finished_at >= (SELECT before FROM able))
      AND (SELECT since < before FROM able)
)
SELECT reason, count(*) AS jobs, CAST(min(CAST(id AS text)) AS uuid) AS first
FROM late GROUP BY reason ORDER BY reason
""")
