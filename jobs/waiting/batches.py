"""Batches as readers see them, and their end by request.

What a batch shows is counted from its jobs when somebody asks; nobody keeps counters.
"""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.errors import BatchClosed, BatchNotFound


class BatchView(NamedTuple):
    """A batch as it is now."""

    id: UUID
    failure_policy: str
    is_open: bool
    jobs: int
    counts: dict[str, int]  #: jobs by state; what has none is left out
    on_complete: UUID | None
    on_success: UUID | None
    cancel_reason: str | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def state(self) -> str:
        """How it ended, by its jobs as they are now, or that it has not."""
        if self.finished_at is None:
            return "running"
        if self.counts.get("succeeded", 0) == self.jobs:
            return "succeeded"
        return "failed" if self.counts.get("failed") or self.cancel_reason is None else "cancelled"


class BatchPage(NamedTuple):
    """Some batches, newest first."""

    batches: list[BatchView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


def get_batch(connection: Connection, project_id: str, batch_id: UUID) -> BatchView:
    """The project's batch. BatchNotFound."""
    binds = {"project": project_id, "id": batch_id}
    row = connection.execute(_GET, binds).one_or_none()
    if row is None:
        raise BatchNotFound(batch_id)
    return BatchView._make(row)


def page_batches(
    connection: Connection, project_id: str, *, limit: int, before: UUID | None = None
) -> BatchPage:
    """The next `limit` batches older than `before`. Counts the jobs of each."""
    binds = {"project": project_id, "limit": limit + 1, "before": before}
    batches = [BatchView._make(row) for row in connection.execute(_PAGE, binds)]
    last_id = batches[limit - 1].id if len(batches) > limit else None
    return BatchPage(batches[:limit], last_id)


def cancel_batch(connection: Connection, project_id: str, batch_id: UUID, reason: str) -> bool:
    """The batch takes no more jobs, and a dispatcher ends those that it has; False: it does so.

    BatchNotFound; BatchClosed when it has ended.
    """
    binds = {"project": project_id, "id": batch_id, "reason": reason}
    if connection.execute(_CANCEL, binds).one_or_none() is not None:
        return True
    batch = get_batch(connection, project_id, batch_id)
    if batch.finished_at is not None and batch.cancel_reason is None:
        raise BatchClosed(batch_id, "cancelling it")
    return False


_COLUMNS = """
SELECT id, failure_policy, is_open, jobs,
       (SELECT coalesce(jsonb_object_agg(state, jobs), '{}') FROM (
            SELECT CAST(state AS text) AS state, count(*) AS jobs
            FROM job WHERE batch_id = batch.id GROUP BY state
        ) AS each) AS counts,
       on_complete, on_success, cancel_reason, created_at, finished_at
FROM batch
"""
_TYPES: dict[str, Any] = {"counts": JSONB}
_GET = sa.text(f"{_COLUMNS} WHERE id = :id AND project_id = :project").columns(**_TYPES)
_PAGE = sa.text(f"""{_COLUMNS}
WHERE project_id = :project AND (CAST(:before AS uuid) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
""").columns(**_TYPES)
_CANCEL = sa.text("""
UPDATE batch SET cancel_reason = :reason, is_open = false
WHERE id = :id AND project_id = :project AND finished_at IS NULL AND cancel_reason IS NULL
RETURNING id
""")
