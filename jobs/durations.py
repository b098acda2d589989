"""How long attempts take, for who hands them out."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection


class Duration(NamedTuple):
    """Of the newest attempts of some jobs of a kind."""

    kind: str
    attempts: int  #: so many have begun
    seconds: float  #: their mean, from claim to report; of one that runs, until now


def measure(connection: Connection, job_ids: Sequence[UUID]) -> list[Duration]:
    """One for each kind of which at least one has begun; found by key."""
    rows = connection.execute(_MEASURE, {"ids": list(job_ids)})
    return [Duration._make(row) for row in rows]


_MEASURE = sa.text("""
SELECT kind, count(*),
       CAST(avg(extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at))
            AS double precision)
FROM job WHERE id = ANY (CAST(:ids AS uuid[])) AND started_at IS NOT NULL
  AND CAST(state AS text) IN ('running', 'succeeded', 'failed', 'cancelled')
GROUP BY kind
""")
