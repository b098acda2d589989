"""Telling the jobs that wait what became of those that they wait for.

Whoever is submitted `after` others leaves a row of job_dependency for each of these, and nothing
else: it locks none of them, so it may stand in a transaction that lasts. A dispatcher tells the
parent that it is awaited (`is_awaited`), under the parent's lock; an awaited job that has ended
stands in a partial index until everybody who waits has been told. So a parent may end before, while
or after its child is committed.

`parents_left` of a waiting job counts those that have not succeeded yet, or, where `any_end` is
enough, have not ended; at 0 it may go on, below
it never will, and `jobs.lifecycle` sees to either. Locked rows are passed over, and come next time.
"""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.direct import flags


class News(NamedTuple):
    """Whether there is anything to do."""

    to_tell: bool  #: parents do not know yet that they are awaited
    to_settle: bool  #: awaited jobs have ended
    let_go: bool  #: jobs wait for nothing any more
    batches: bool  #: have not ended
    is_waiting: bool  #: anybody


def look(connection: Connection) -> News:
    """A few looks at small indexes, in one statement. No transaction has begun."""
    return News._make(_LOOK.glance(connection))


def tell(connection: Connection, limit: int) -> int:
    """At most `limit` waiting jobs are known to those that they wait for; how many.

    A parent that was deleted before is as good as cancelled. In a transaction; locks the parents.
    """
    lost: int = connection.execute(_LOSE).scalar_one()
    told: int = connection.execute(_TELL, {"limit": limit}).scalar_one()
    return lost + told


def settle(connection: Connection, limit: int) -> int:
    """Of at most `limit` jobs that have ended, those that wait for them know; how many know it now.

    In a transaction; locks the ended jobs and those that wait.
    """
    ended = connection.execute(_ENDED, {"limit": limit}).all()
    ids = [row.id for row in ended]
    binds = {"ids": ids, "successes": [row.is_success for row in ended], "limit": limit}
    known: int = connection.execute(_SETTLE, binds).scalar_one()
    return known + connection.execute(_FORGET, {"ids": ids}).rowcount


_TO_SETTLE = "EXISTS (SELECT FROM job WHERE is_awaited AND finished_at IS NOT NULL)"
_LET_GO = """EXISTS (
    SELECT FROM job WHERE state = 'waiting' AND parents_left <= 0
      AND (parents_left < 0 OR run_at IS NULL OR run_at <= statement_timestamp())
)"""
_BATCHES = "EXISTS (SELECT FROM batch WHERE finished_at IS NULL)"
_IS_WAITING = "EXISTS (SELECT FROM job_dependency)"
IS_ANY = f"({_IS_WAITING} OR {_TO_SETTLE} OR {_LET_GO} OR {_BATCHES})"  #: of News
_LOOK = flags(
    "lading_look_for_waiting",
    f"""
SELECT EXISTS (SELECT FROM job_dependency WHERE NOT is_told),
       {_TO_SETTLE}, {_LET_GO}, {_BATCHES}, {_IS_WAITING}
""",  # noqa: S608 - no value is part of it
    len(News._fields),
)
_LOSE = sa.text("""
WITH lost AS (
    DELETE FROM job_dependency AS tie
    WHERE NOT is_told AND NOT EXISTS (SELECT FROM job WHERE job.id = tie.parent_id)
    RETURNING job_id, any_end
),
sums AS (
    SELECT job_id, count(*) AS met, bool_and(any_end) AS may_go FROM lost GROUP BY job_id
),
changed AS (
    UPDATE job
    SET parents_left = CASE WHEN may_go AND parents_left > 0 THEN parents_left - met ELSE -1 END
    FROM sums WHERE job.id = sums.job_id AND CAST(job.state AS text) = 'waiting'
)
SELECT count(*) FROM lost
""")
_TELL = sa.text("""
WITH fresh AS (
    SELECT parent_id, job_id FROM job_dependency WHERE NOT is_told
    ORDER BY parent_id LIMIT :limit FOR UPDATE SKIP LOCKED
),
parent AS (
    SELECT id FROM job WHERE id = ANY (ARRAY (SELECT parent_id FROM fresh))
    FOR NO KEY UPDATE SKIP LOCKED
),
awaited AS (
    UPDATE job SET is_awaited = true
    WHERE id = ANY (ARRAY (SELECT id FROM parent)) AND NOT is_awaited
),
told AS (
    UPDATE job_dependency AS tie SET is_told = true FROM fresh JOIN parent ON id = fresh.parent_id
    WHERE tie.parent_id = fresh.parent_id AND tie.job_id = fresh.job_id
    RETURNING tie.job_id
)
SELECT count(*) FROM told
""")
_ENDED = sa.text("""
SELECT id, CAST(state AS text) = 'succeeded' AS is_success FROM job
WHERE is_awaited AND finished_at IS NOT NULL
ORDER BY finished_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")
_SETTLE = sa.text("""
WITH tie AS (
    SELECT parent_id, job_id, is_success OR any_end AS is_success
    FROM unnest(CAST(:ids AS uuid[]), CAST(:successes AS boolean[])) AS ended (id, is_success)
    JOIN job_dependency ON parent_id = ended.id
    WHERE is_told LIMIT :limit
),
child AS (
    SELECT id FROM job WHERE id = ANY (ARRAY (SELECT job_id FROM tie))
    FOR NO KEY UPDATE SKIP LOCKED
),
known AS (
    DELETE FROM job_dependency USING tie
    WHERE job_dependency.parent_id = tie.parent_id AND job_dependency.job_id = tie.job_id
      AND (tie.job_id IN (SELECT id FROM child)
           OR NOT EXISTS (SELECT FROM job WHERE job.id = tie.job_id))
    RETURNING job_dependency.job_id, is_success
),
sums AS (
    SELECT job_id, count(*) AS met, bool_and(is_success) AS is_success FROM known GROUP BY job_id
),
changed AS (
    UPDATE job
    SET parents_left = CASE WHEN is_success AND parents_left > 0 THEN parents_left - met ELSE -1 END
    FROM sums WHERE job.id = sums.job_id AND CAST(job.state AS text) = 'waiting'
)
SELECT count(*) FROM known
""")
_FORGET = sa.text("""
UPDATE job SET is_awaited = false
WHERE id = ANY (CAST(:ids AS uuid[]))
  AND NOT EXISTS (SELECT FROM job_dependency WHERE parent_id = job.id AND is_told)
""")
