"""Forgetting what is old: ended jobs with their histories, log lines, idempotency keys.

Jobs go in slices from the oldest on, a few hundred at a time, each slice in one statement that also
counts them out (jobs.balance). Nothing waits here: rows that somebody has locked are passed over.
"""

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.histories import find_reach
from jobs.ids import LAST, first_id, next_id
from jobs.removal import COUNTED
from jobs.states import JobState

SLICE = 1000  # events: at most 500 jobs that have ended, some tens of milliseconds


class Terms(NamedTuple):
    """How long what has ended is kept, from its end; a key from its first use."""

    succeeded: timedelta  #: and cancelled
    failed: timedelta
    logs: timedelta  #: the lines; their events stay
    keys: timedelta
    audit: timedelta
    events: timedelta  #: published ones


class Pruned(NamedTuple):
    """What a slice has taken away, and where it ended."""

    reach: UUID | None  #: None: there is nothing older left
    jobs: int


def prune_jobs(connection: Connection, terms: Terms, after: UUID, process_id: UUID) -> Pruned:
    """Of the oldest jobs above `after`, those whose time is over are gone, or their log lines are.

    Locks them, and the process's rows of intake_total.
    """
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    youngest = first_id(now - min(terms.succeeded, terms.failed, terms.logs))
    reach = min(find_reach(connection, after, SLICE), youngest)
    if reach <= after:
        return Pruned(None, 0)
    binds = {
        "first": next_id(after),
        "last": reach,
        "process_id": process_id,
        "succeeded": now - terms.succeeded,
        "failed": now - terms.failed,
        "logs": now - terms.logs,
    }
    jobs = connection.execute(_PRUNE, binds).scalar_one()
    connection.execute(_DROP_LINES, binds)
    connection.execute(_PRUNE_BATCHES, {"youngest": youngest, "failed": now - terms.failed})
    return Pruned(None if reach in {youngest, LAST} else reach, jobs)


def prune_keys(connection: Connection, terms: Terms, limit: int) -> int:
    """At most `limit` idempotency keys that are too old are forgotten; how many."""
    result = connection.execute(_PRUNE_KEYS, {"age": terms.keys, "limit": limit})
    return result.rowcount


_FORGIVEN = f"'{JobState.SUCCEEDED}', '{JobState.CANCELLED}'"
# Names of states only; every value is bound.
_PRUNE = sa.text(f"""
WITH due AS (
    SELECT id FROM job
    WHERE id BETWEEN :first AND :last
      AND finished_at < CASE WHEN CAST(state AS text) IN ({_FORGIVEN})
                        THEN CAST(:succeeded AS timestamptz) ELSE CAST(:failed AS timestamptz) END
      AND NOT is_awaited
      AND (batch_id IS NULL OR NOT EXISTS (
          SELECT FROM batch WHERE batch.id = job.batch_id AND batch.finished_at IS NULL))
    ORDER BY id FOR UPDATE SKIP LOCKED
),
removed AS (
    DELETE FROM job WHERE id = ANY (ARRAY (SELECT id FROM due)) RETURNING id
),
{COUNTED}
SELECT count(*) FROM removed
""")  # noqa: S608 - see above
_PRUNE_BATCHES = sa.text("""
DELETE FROM batch WHERE id = ANY (ARRAY (
    SELECT id FROM batch
    WHERE id < :youngest AND finished_at < :failed
      AND NOT EXISTS (SELECT FROM job WHERE batch_id = batch.id)
    ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
))
""")
_DROP_LINES = sa.text("""
UPDATE job_event SET data = jsonb_build_object('dropped', jsonb_array_length(data -> 'lines'))
WHERE type = 'log' AND data ? 'lines' AND job_id = ANY (ARRAY (
    SELECT id FROM job WHERE id BETWEEN :first AND :last AND finished_at < :logs
))
""")
_PRUNE_KEYS = sa.text("""
DELETE FROM idempotency_key WHERE (project_id, key) IN (
    SELECT project_id, key FROM idempotency_key
    WHERE created_at < clock_timestamp() - CAST(:age AS interval)
    ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")
