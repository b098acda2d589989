"""How long attempts take, for who hands them out."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection


class Duration(NamedTuple):
    """Of the newest attempts of some jobs of a kind."""

    kind: str
    attempts: int  #: so many have ended, or have run for a while
    #: Their mean, as their processes have measured it: while a machine is overloaded, they wait
    #: longer than they run. From claim to report, where none could; of one that runs, until now.
    seconds: float


def measure(connection: Connection, job_ids: Sequence[UUID]) -> list[Duration]:
    """One for each kind of which at least one counts; found by key."""
    rows = connection.execute(_MEASURE, {"ids": list(job_ids)})
    return [Duration._make(row) for row in rows]


# What has run for less than a second may be held up by the machine: its end will say.
_MEASURE = sa.text("""
SELECT kind, count(*),
       CAST(avg(coalesce(run_seconds, extract(
           epoch FROM coalesce(job.finished_at, clock_timestamp()) - job.started_at
       ))) AS double precision)
FROM job LEFT JOIN job_attempt ON job_id = id AND job_attempt.attempt = job.attempt
WHERE id = ANY (CAST(:ids AS uuid[])) AND job.started_at IS NOT NULL
  AND CASE CAST(state AS text)
      WHEN 'running' THEN job.started_at < clock_timestamp() - interval '1 second'
      ELSE CAST(state AS text) IN ('succeeded', 'failed', 'cancelled') END
GROUP BY kind
""")
