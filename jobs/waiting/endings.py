"""The ends of batches: by a failure where that is enough, and in truth when no job is left.

Nobody counts: whether a job is left is asked of the index that has a batch's jobs by their states,
so that ten thousand of them may end at once without waiting for each other. A batch ends once,
under its lock, and that lets its callbacks go: jobs that have waited for it from the beginning.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

FAIL_FAST = "fail_fast"  #: the reason of what another job's failure has ended


class Cancelled(NamedTuple):
    """A batch whose jobs are to end."""

    id: UUID
    reason: str


def fail_fast(connection: Connection) -> int:
    """The batches that want it, and of which a job has failed, are to end; how many."""
    return connection.execute(_FAIL_FAST, {"reason": FAIL_FAST}).rowcount


def find_cancelled(connection: Connection, limit: int) -> Sequence[Cancelled]:
    """At most `limit` batches that are to end, and have jobs that do not know."""
    rows = connection.execute(_CANCELLED, {"limit": limit})
    return [Cancelled._make(row) for row in rows]


def end_batches(connection: Connection, limit: int) -> int:
    """At most `limit` batches without a job that has not ended have ended, too; how many."""
    ended: int = connection.execute(_END, {"limit": limit}).scalar_one()
    return ended


_FAIL_FAST = sa.text("""
UPDATE batch SET cancel_reason = :reason, is_open = false
WHERE id = ANY (ARRAY (
    SELECT id FROM batch
    WHERE finished_at IS NULL AND failure_policy = 'fail_fast' AND cancel_reason IS NULL
      AND EXISTS (SELECT FROM job WHERE batch_id = batch.id AND state = 'failed')
    FOR NO KEY UPDATE SKIP LOCKED
))
""")
_CANCELLED = sa.text("""
SELECT id, cancel_reason FROM batch
WHERE finished_at IS NULL AND cancel_reason IS NOT NULL
  AND (EXISTS (SELECT FROM job WHERE batch_id = batch.id
               AND state IN ('waiting', 'scheduled', 'queued', 'retrying'))
       OR EXISTS (SELECT FROM job WHERE batch_id = batch.id
                  AND state = 'running' AND NOT cancel_requested))
LIMIT :limit
""")
_END = sa.text("""
WITH ready AS (
    SELECT id FROM batch
    WHERE finished_at IS NULL AND NOT is_open AND NOT EXISTS (
        SELECT FROM job WHERE batch_id = batch.id
        AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying')
    )
    LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
),
ended AS (
    UPDATE batch SET finished_at = clock_timestamp()
    WHERE id = ANY (ARRAY (SELECT id FROM ready))
    RETURNING id, on_success, jobs = (
        SELECT count(*) FROM job WHERE batch_id = batch.id AND state = 'succeeded'
    ) AS is_success
),
known AS (
    DELETE FROM job_dependency USING ended WHERE parent_id = ended.id
    RETURNING job_id, is_success OR job_id IS DISTINCT FROM on_success AS may_go
),
let_go AS (
    UPDATE job SET parents_left = CASE WHEN may_go THEN 0 ELSE -1 END
    FROM known WHERE job.id = known.job_id AND CAST(job.state AS text) = 'waiting'
)
SELECT count(*) FROM ended
""")
