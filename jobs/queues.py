"""Queues as readers see them: what waits in each, since when, and who serves them."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection


class QueueView(NamedTuple):
    """One queue; counts are of jobs, or of workers that are alive."""

    name: str
    queued: int
    running: int
    scheduled: int
    oldest_wait_seconds: float | None  #: of a job that could start; None: there is none
    paused: bool
    pause: dict[str, Any] | None  #: reason, by whom and when, while it is paused
    workers: int


class Unfinished(NamedTuple):
    """How many jobs of a queue are in a state that is not final."""

    queue: str
    state: str
    jobs: int
    oldest_wait_seconds: float | None  #: of those that are queued


_QUEUES = sa.text("""
WITH live AS (
    SELECT queue, state, count(*) AS jobs, min(queued_at) AS since
    FROM job WHERE finished_at IS NULL AND project_id = :project GROUP BY queue, state
),
served AS (
    SELECT queue, count(*) AS workers FROM worker, unnest(queues) AS queue
    WHERE seen_at > clock_timestamp() - CAST(:lease AS interval) GROUP BY queue
),
named AS (
    SELECT unnest(CAST(:known AS text[])) AS name
    UNION SELECT queue FROM live
    UNION SELECT queue FROM served
    UNION SELECT name FROM gate
    WHERE project_id = :project AND scope = 'queue'
      AND (paused OR concurrency IS NOT NULL OR rate_limit IS NOT NULL)
)
SELECT named.name,
       coalesce(sum(live.jobs) FILTER (WHERE live.state = 'queued'), 0)::bigint AS queued,
       coalesce(sum(live.jobs) FILTER (WHERE live.state = 'running'), 0)::bigint AS running,
       coalesce(sum(live.jobs) FILTER (WHERE live.state = 'scheduled'), 0)::bigint AS scheduled,
       extract(epoch FROM clock_timestamp() - min(live.since) FILTER (WHERE live.state = 'queued'))
           ::double precision AS oldest_wait_seconds,
       coalesce(bool_or(gate.paused), false) AS paused,
       min(gate.pause_reason), min(gate.paused_by), min(gate.paused_at),
       coalesce(max(served.workers), 0) AS workers
FROM named
LEFT JOIN live ON live.queue = named.name
LEFT JOIN served ON served.queue = named.name
LEFT JOIN gate ON gate.project_id = :project AND scope = 'queue' AND gate.name = named.name
GROUP BY named.name ORDER BY named.name
""")


def list_queues(
    connection: Connection, project_id: str, known: Iterable[str], lease: timedelta
) -> list[QueueView]:
    """The `known` queues, and all others with unfinished jobs, live workers, a pause or a limit.

    A worker is alive while its last beat is younger than a `lease`. Reads each unfinished job's
    entry once: a second for some millions.
    """
    binds = {"project": project_id, "known": sorted(known), "lease": lease}
    found = []
    for row in connection.execute(_QUEUES, binds):
        *facts, paused, reason, by, at, workers = row
        pause = {"reason": reason, "by": by, "at": at} if paused else None
        found.append(QueueView._make((*facts, paused, pause, workers)))
    return found


_UNFINISHED = sa.text("""
SELECT queue, state::text, count(*),
       extract(epoch FROM clock_timestamp() - min(queued_at) FILTER (WHERE state = 'queued'))
           ::double precision
FROM job WHERE finished_at IS NULL GROUP BY queue, state
""")


def count_unfinished(connection: Connection) -> list[Unfinished]:
    """All projects' unfinished jobs by queue and state."""
    return [Unfinished._make(row) for row in connection.execute(_UNFINISHED)]


class Alive(NamedTuple):
    """Processes that have been seen within a lease."""

    dispatchers: int
    workers: int


_ALIVE = sa.text("""
SELECT (SELECT count(*) FROM dispatcher
        WHERE seen_at > clock_timestamp() - CAST(:lease AS interval)) AS dispatchers,
       (SELECT count(*) FROM worker
        WHERE seen_at > clock_timestamp() - CAST(:lease AS interval)) AS workers
""")


def count_alive(connection: Connection, lease: timedelta) -> Alive:
    """Whether anybody is there to start jobs."""
    return Alive._make(connection.execute(_ALIVE, {"lease": lease}).one())
