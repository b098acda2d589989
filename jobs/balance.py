"""Whether as many jobs are there as were accepted and not removed.

Who inserts or deletes jobs adds to `intake_total` in the same statement, so the two sides agree in
every snapshot, however many submit and delete meanwhile. They are counted by buckets, the first
group of the ids, which is 65.5 seconds of UUIDv7's time: a stretch of buckets can be compared by
itself, at the cost of its own rows, and the whole table piece by piece.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.ids import FIRST, LAST, first_id

MOST_BUCKETS = 500  # that are looked at together
REASONS = ("missing", "uncounted")
_BUCKET = 8  # hexadecimal digits


class Imbalance(NamedTuple):
    """A bucket whose jobs are fewer or more than were counted in and out."""

    first: UUID  #: that its ids may be
    expected: int
    present: int

    @property
    def reason(self) -> str:
        """The word for it, of REASONS."""
        return "missing" if self.present < self.expected else "uncounted"


def compare(connection: Connection, first: UUID = FIRST, last: UUID = LAST) -> list[Imbalance]:
    """The buckets that do not balance, of those that `first` and `last` lie in or between.

    One statement, and so one snapshot. It reads the index of these jobs' ids, at best alone: some
    0.2 µs each.
    """
    binds = {
        "first": first_of(bucket_of(first)),
        "last": last_of(bucket_of(last)),
        "first_bucket": bucket_of(first),
        "last_bucket": bucket_of(last),
    }
    rows = connection.execute(_COMPARE, binds)
    return [Imbalance(first_of(row.bucket), row.expected, row.present) for row in rows]


def find_reach(connection: Connection, after: UUID, jobs: int) -> UUID:
    """The last id of the buckets above `after` that have about so many jobs; LAST: all have."""
    binds = {"after": "" if after == FIRST else bucket_of(after), "jobs": jobs}
    rows = connection.execute(_NEXT, {**binds, "most": MOST_BUCKETS}).all()
    reached = [row.bucket for row in rows if row.before < jobs]
    return last_of(reached[-1]) if len(reached) < len(rows) or len(rows) == MOST_BUCKETS else LAST


def settle(connection: Connection, until: datetime, limit: int = 1000) -> None:
    """Of the rows of buckets before `until`, `limit` are added up, so that they stay few.

    One of each bucket is left; where all its jobs have been removed, it goes into that of all time.
    No sum changes at any moment. A row that somebody counts in just now is left for later.
    """
    binds = {"until": bucket_of(first_id(until)), "limit": limit, "nobody": FIRST}
    for statement in (_MERGE, _FOLD):
        connection.execute(statement, binds)


def bucket_of(job_id: UUID) -> str:
    """The bucket that the job is counted in."""
    return str(job_id)[:_BUCKET]


def first_of(bucket: str) -> UUID:
    """The lowest id of the bucket."""
    return UUID(hex=bucket.ljust(32, "0"))


def last_of(bucket: str) -> UUID:
    """The highest id of the bucket."""
    return UUID(hex=bucket.ljust(32, "f"))


_COMPARE = sa.text("""
WITH said AS (
    SELECT bucket, sum(accepted - removed) AS jobs FROM intake_total
    WHERE bucket BETWEEN :first_bucket AND :last_bucket GROUP BY bucket
),
present AS (
    SELECT left(CAST(id AS text), 8) COLLATE "C" AS bucket, count(*) AS jobs
    FROM job WHERE id BETWEEN :first AND :last GROUP BY 1
)
SELECT bucket, CAST(coalesce(said.jobs, 0) AS bigint) AS expected,
       coalesce(present.jobs, 0) AS present
FROM said FULL JOIN present USING (bucket)
WHERE coalesce(said.jobs, 0) <> coalesce(present.jobs, 0)
ORDER BY bucket
""")
_NEXT = sa.text("""
SELECT bucket, sum(jobs) OVER (ORDER BY bucket) - jobs AS before FROM (
    SELECT bucket, sum(accepted - removed) AS jobs FROM intake_total
    WHERE bucket > :after GROUP BY bucket ORDER BY bucket LIMIT :most
) AS next ORDER BY bucket
""")
_COUNTS = """
INSERT INTO intake_total (bucket, process_id, accepted, removed)
SELECT bucket, CAST(:nobody AS uuid), accepted, removed FROM sums ORDER BY bucket
ON CONFLICT (bucket, process_id) DO UPDATE
SET accepted = intake_total.accepted + excluded.accepted,
    removed = intake_total.removed + excluded.removed
"""
_MERGE = sa.text(f"""
WITH old AS (
    SELECT bucket, process_id FROM intake_total
    WHERE bucket > '' AND bucket < :until AND process_id <> :nobody
    ORDER BY bucket, process_id LIMIT :limit FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM intake_total USING old
    WHERE intake_total.bucket = old.bucket AND intake_total.process_id = old.process_id
    RETURNING intake_total.bucket, accepted, removed
),
sums AS (
    SELECT bucket, sum(accepted) AS accepted, sum(removed) AS removed FROM gone GROUP BY bucket
)
{_COUNTS}""")  # noqa: S608 - every value is bound
_FOLD = sa.text(f"""
WITH gone AS (
    DELETE FROM intake_total WHERE process_id = :nobody AND bucket IN (
        SELECT bucket FROM intake_total
        WHERE bucket > '' AND bucket < :until AND process_id = :nobody AND accepted = removed
        ORDER BY bucket LIMIT :limit
    ) AND accepted = removed
    RETURNING accepted, removed
),
sums AS (
    SELECT '' AS bucket, sum(accepted) AS accepted, sum(removed) AS removed
    FROM gone HAVING count(*) > 0
)
{_COUNTS}""")  # noqa: S608 - every value is bound
