"""Which attempts are rung next: a short window of bells per queue; the backlog stays here.

A row that is queued is rung (`rung_at`) or waits for it. At most a window of each queue's rows is
rung at a time, so that order, pause, cancel and recovery are matters of this table alone. Nothing
here knows the broker: marks are committed first, bells follow, and a mark whose bell got lost is
taken back. `job_to_ring` is ordered by project and kind first: what nobody may start now, a paused
queue's million or a kind without a worker, costs one look and no walk.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.broker import Bell

MAX_WINDOW = 1000  # bells a queue: a second's work of the fastest; about a MiB of the broker


class Standing(NamedTuple):
    """A queue that live workers serve."""

    queue: str
    slots: int  #: attempts that they can make at a time
    rung: int  #: bells that nobody has answered yet
    projects: list[str]  #: with `kinds`, pairs that have jobs to ring …
    kinds: list[str]  #: … which a live worker knows and nobody has paused
    epoch: UUID | None  #: of the broker that the marks belong to


class Unanswered(NamedTuple):
    """Where bells have been rung in vain up to now."""

    queues: list[str]
    before: datetime  #: they were marked, or earlier


class Epoch(NamedTuple):
    """The broker's life that the marks belong to."""

    epoch: UUID
    run_id: str


def window(slots: int, starts: float) -> int:
    """How many bells of a queue may hang unanswered, after so many `starts` in the last second.

    Two for each slot, so that none waits for the dispatcher's next look; two seconds' worth where
    jobs are quick.
    """
    return min(MAX_WINDOW, max(2 * slots, round(2 * starts)))


def survey(connection: Connection, lease: timedelta) -> list[Standing]:
    """Every queue that workers serve which were seen within the lease, in one statement."""
    return [Standing._make(row) for row in connection.execute(_SURVEY, {"lease": lease})]


def pick(connection: Connection, standing: Standing, size: int) -> list[Bell]:
    """The next jobs are marked as rung, as many as the window of `size` has room for.

    First come the highest priority, then the longest in the queue. Locks, until the caller commits:
    the queue, so that no two dispatchers fill the same window (none is picked while another holds
    it), and the picked rows, where locked ones are passed over. The bells are for after the commit.
    """
    if not connection.execute(_LOCK, {"queue": standing.queue}).scalar_one():
        return []
    binds = {
        "queue": standing.queue,
        "projects": standing.projects,
        "kinds": standing.kinds,
        "window": size,
    }
    rows = connection.execute(_PICK, binds).all()
    return [
        Bell(standing.queue, row.kind, ((row.id, row.attempt),), row.priority)
        for row in sorted(rows, key=lambda row: (-row.priority, row.queued_at, row.id))
    ]


def take_back(connection: Connection, bells: Sequence[Bell]) -> None:
    """Attempts whose bells may not have been heard are to be rung, unless one has started."""
    attempts = [attempt for bell in bells for attempt in bell.attempts]
    ids, numbers = [job_id for job_id, _ in attempts], [number for _, number in attempts]
    connection.execute(_TAKE_BACK, {"ids": ids, "numbers": numbers})


def find_unanswered(connection: Connection, after: timedelta) -> Unanswered:
    """The queues with bells that nobody has answered for so long."""
    return Unanswered._make(connection.execute(_UNANSWERED, {"after": after}).one())


def forget_lost(
    connection: Connection, unanswered: Unanswered, hanging: Sequence[tuple[UUID, int]]
) -> int:
    """The unanswered bells that do not hang in the broker are to be rung anew; how many.

    `hanging` are the attempts whose bells hung there after it was known which are `unanswered`.
    """
    ids, numbers = [job_id for job_id, _ in hanging], [number for _, number in hanging]
    binds = {**unanswered._asdict(), "ids": ids, "numbers": numbers}
    return connection.execute(_FORGET_LOST, binds).rowcount


def find_next_due(connection: Connection) -> float | None:
    """Seconds until the next job is to be released or has expired; 0 or less: now."""
    seconds: float | None = connection.execute(_NEXT_DUE).scalar_one()
    return seconds


def get_epoch(connection: Connection) -> Epoch:
    """The epoch that the marks belong to; before the first, one that no broker is in."""
    connection.execute(_FIRST_EPOCH)
    return Epoch._make(connection.execute(_EPOCH).one())


def begin_epoch(connection: Connection, old: Epoch, new: Epoch) -> bool:
    """The new epoch stands; False when another dispatcher has ended the old one. Locks the row."""
    binds = {"old": old.epoch, "epoch": new.epoch, "run_id": new.run_id}
    return connection.execute(_BEGIN_EPOCH, binds).one_or_none() is not None


# `waiting` jumps along job_to_ring from one (queue, project, kind) to the next (a loose index
# scan, https://wiki.postgresql.org/wiki/Loose_indexscan), so its cost is their number, not the
# backlog's.
_SURVEY = sa.text("""
WITH RECURSIVE waiting AS (
    (SELECT queue, project_id, kind FROM job
     WHERE state = 'queued' AND rung_at IS NULL
     ORDER BY queue, project_id, kind LIMIT 1)
    UNION ALL
    SELECT next.* FROM waiting, LATERAL (
        SELECT queue, project_id, kind FROM job
        WHERE state = 'queued' AND rung_at IS NULL
          AND (queue, project_id, kind) > (waiting.queue, waiting.project_id, waiting.kind)
        ORDER BY queue, project_id, kind LIMIT 1
    ) AS next
),
live AS MATERIALIZED (
    SELECT served.queue, worker.slots, worker.kinds
    FROM worker, unnest(worker.queues) AS served (queue)
    WHERE worker.seen_at > clock_timestamp() - CAST(:lease AS interval)
),
startable AS MATERIALIZED (
    SELECT queue, project_id, kind FROM waiting
    WHERE EXISTS (
        SELECT FROM live WHERE live.queue = waiting.queue AND waiting.kind = ANY (live.kinds)
    ) AND NOT EXISTS (
        SELECT FROM queue
        WHERE queue.project_id = waiting.project_id AND name = waiting.queue AND paused
    )
)
SELECT served.queue, served.slots,
       (SELECT count(*) FROM job
        WHERE state = 'queued' AND rung_at IS NOT NULL AND job.queue = served.queue),
       ARRAY (SELECT project_id FROM startable WHERE startable.queue = served.queue
              ORDER BY project_id, kind),
       ARRAY (SELECT kind FROM startable WHERE startable.queue = served.queue
              ORDER BY project_id, kind),
       (SELECT epoch FROM broker_epoch)
FROM (SELECT queue, sum(slots) AS slots FROM live GROUP BY queue) AS served
""")
# Written so that one index fits each part, whatever PostgreSQL believes of a backlog that came
# since the last ANALYZE: rows of columns are compared, and wholly ordered, as in job_to_ring alone;
# under their locks the candidates are found by key, for a state's text fits no partial index, and
# an array is believed to be short, where a join might be made by reading everything.
_LOCK = sa.text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('lading.dispatch.' || :queue, 0))"
)
_PICK = sa.text("""
WITH room AS MATERIALIZED (
    SELECT greatest(0, :window - count(*)) AS count FROM job
    WHERE state = 'queued' AND rung_at IS NOT NULL AND queue = :queue
),
candidate AS (
    SELECT next.id
    FROM unnest(CAST(:projects AS text[]), CAST(:kinds AS text[])) AS wanted (project_id, kind),
    LATERAL (
        SELECT id, priority, queued_at FROM job
        WHERE state = 'queued' AND rung_at IS NULL
          AND (queue, project_id, kind) >= (:queue, wanted.project_id, wanted.kind)
          AND (queue, project_id, kind) <= (:queue, wanted.project_id, wanted.kind)
          AND (attempt > 0 OR expires_at IS NULL OR expires_at > clock_timestamp())
        ORDER BY queue, project_id, kind, priority DESC, queued_at, id
        LIMIT (SELECT count FROM room)
    ) AS next
    ORDER BY next.priority DESC, next.queued_at, next.id
    LIMIT (SELECT count FROM room)
),
picked AS (
    SELECT id FROM job
    WHERE id = ANY (ARRAY (SELECT id FROM candidate))
      AND CAST(state AS text) = 'queued' AND rung_at IS NULL
    FOR UPDATE SKIP LOCKED
)
UPDATE job SET rung_at = clock_timestamp() WHERE id = ANY (ARRAY (SELECT id FROM picked))
RETURNING job.id, attempt + 1 AS attempt, kind, priority, queued_at
""")
_TAKE_BACK = sa.text("""
UPDATE job SET rung_at = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[])) AS bell (id, number)
WHERE job.id = bell.id AND attempt = bell.number - 1 AND state = 'queued' AND rung_at IS NOT NULL
""")
_UNANSWERED = sa.text("""
SELECT ARRAY (
    SELECT DISTINCT queue FROM job
    WHERE state = 'queued' AND rung_at < statement_timestamp() - CAST(:after AS interval)
    ORDER BY queue
), statement_timestamp() - CAST(:after AS interval)
""")
_FORGET_LOST = sa.text("""
WITH lost AS (
    SELECT id FROM job
    WHERE state = 'queued' AND queue = ANY (CAST(:queues AS text[])) AND rung_at < :before
      AND (id, attempt + 1) NOT IN (
          SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[]))
      )
    FOR UPDATE SKIP LOCKED
)
UPDATE job SET rung_at = NULL WHERE id = ANY (ARRAY (SELECT id FROM lost))
""")
_NEXT_DUE = sa.text("""
SELECT CAST(extract(epoch FROM least(
    (SELECT run_at FROM job WHERE state IN ('scheduled', 'retrying') ORDER BY run_at LIMIT 1),
    (SELECT expires_at FROM job
     WHERE expires_at IS NOT NULL AND finished_at IS NULL AND attempt = 0
     ORDER BY expires_at LIMIT 1)
) - clock_timestamp()) AS double precision)
""")
_FIRST_EPOCH = sa.text("""
INSERT INTO broker_epoch (single, epoch, run_id) VALUES (true, gen_random_uuid(), '')
ON CONFLICT DO NOTHING
""")
_EPOCH = sa.text("SELECT epoch, run_id FROM broker_epoch")
_BEGIN_EPOCH = sa.text("""
UPDATE broker_epoch SET epoch = :epoch, run_id = :run_id WHERE epoch = :old RETURNING epoch
""")
