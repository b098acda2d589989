"""The limit on an attempt's log: the oldest lines give way, their events keep their place."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

LINES_PER_EVENT = 100
LINES_PER_ATTEMPT = 10_000


def drop_lines(connection: Connection, job_id: UUID, events: Sequence[tuple[int, int]]) -> None:
    """Each of these log events, (seq, lines that were in it), says only how many are gone."""
    binds = {
        "job": job_id,
        "seqs": [seq for seq, _ in events],
        "counts": [count for _, count in events],
    }
    connection.execute(_DROP, binds)


_DROP = sa.text("""
UPDATE job_event SET data = jsonb_build_object('dropped', gone.count)
FROM unnest(CAST(:seqs AS bigint[]), CAST(:counts AS bigint[])) AS gone (seq, count)
WHERE job_event.job_id = :job AND job_event.seq = gone.seq AND job_event.type = 'log'
""")
