"""Which attempts are rung next: a short window of bells per queue; the backlog stays here.

A row that is queued is rung (`rung_at`) or waits for it. At most a window of each queue's rows is
rung at a time, so that order, pause, cancel and recovery are matters of this table alone. Nothing
here knows the broker: marks are committed first, bells follow, and a mark whose bell got lost is
taken back. `job_to_ring` is ordered by project and kind first: what nobody may start now, a paused
queue's million or a kind without a worker, costs one look and no walk.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from jobs.admission import GROUP, IS_LIMITED, IS_STARTABLE, KEYED, LIVE, PLAIN, groups
from jobs.broker import Bell
from jobs.direct import Direct, together
from jobs.gates import COUNTING
from jobs.picks import (
    AGED_EVERY,
    HAS_LOCKS,
    PICK_AT_ONCE,
    PICK_COUNTED,
    PICK_LONE,
    PICK_PLAIN,
)

MOST_REMEMBERED = 10_000  # groups whose last keys are remembered
QUICK = 0.02  # seconds of a look; the plan for the next one, which takes four milliseconds, is kept
CYCLE = 2 * AGED_EVERY  # bells after which all turns have come round
MAX_WINDOW = 1000  # bells a queue: a second's work of the fastest; about a MiB of the broker


class Standing(NamedTuple):
    """A queue that live workers serve."""

    queue: str
    slots: int  #: attempts that they can make at a time
    rung: int  #: bells that nobody has answered yet
    projects: list[str]  #: with the next three, groups that have jobs to ring, …
    kinds: list[str]  #: … which a live worker knows and nobody has paused
    priorities: list[int]
    keyed: list[bool]  #: whether the group's jobs have concurrency keys
    is_limited: bool  #: something is, somewhere
    epoch: UUID | None  #: of the broker that the marks belong to
    dispatchers: int  #: that live, and share the bells of all queues

    @property
    def is_counted(self) -> bool:
        """Whether more than the window may keep its jobs from being rung."""
        return self.is_limited or any(self.keyed)


@dataclass(slots=True)
class Turns:
    """Whose turn it is in a queue, as far as one dispatcher remembers; forgetting it is no harm."""

    took: float = 0.0  #: seconds of the last look
    is_lonely: bool = False  #: at most one job was found at once, the last time
    rung: int = 0  #: bells so far, of which some go to jobs that have aged, or have no key
    last: dict[tuple[str, str, int], str] = field(default_factory=dict)  #: each group's last key


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
    """Every queue that workers serve which were seen within the lease, in one statement.

    It begins no transaction.
    """
    standings, epoch, dispatchers = _surveyed(lease).glance(connection)
    return [Standing._make((*each, epoch, dispatchers)) for each in standings]


def pick_at_once(
    connection: Connection, queue: str, size: int, lease: timedelta, turns: Turns
) -> list[Bell]:
    """The queue's next jobs are marked as by `pick`, of a queue that has not been looked at.

    So a lone job is marked in one round trip: where the last look found no more than one, this one
    asks for just that first. A transaction by itself; none is marked where a job of the queue has a
    key or anything is limited. Locks and bells as with `pick`.
    """
    binds = {"queue": queue, "window": size, "offset": turns.rung, "lease": lease}
    found: Sequence[tuple[Any, ...]] = []
    if turns.is_lonely:
        _, found = together(connection, [(_LOCK, binds), (PICK_LONE, binds)])
    if not found:
        _, found = together(connection, [(_LOCK, binds), (PICK_AT_ONCE, binds)])
    turns.is_lonely = len(found) <= 1
    return _bells(queue, found, turns)


def pick(
    connection: Connection, standing: Standing, size: int, turns: Turns | None = None
) -> list[Bell]:
    """The next jobs are marked as rung, as many as the window of `size` has room for.

    First come the highest priority, then the longest in the queue; keys take turns, and some places
    go to jobs that have aged, whose bells are of a higher priority then (jobs/picks.py). Of a
    standing that is counted it is a part of the caller's transaction, of others one by itself,
    unless it is called in one. Locks until the commit: the queue, so that no two dispatchers fill
    the same window, and where anything is limited all counting (none is picked while another holds
    them); the picked rows, where locked ones are passed over; and the gates whose rates are spent.
    The bells are for after the commit.
    """
    turns = Turns() if turns is None else turns
    binds = {
        "queue": standing.queue,
        "projects": standing.projects,
        "kinds": standing.kinds,
        "priorities": standing.priorities,
        "window": size,
        "offset": turns.rung,
    }
    if standing.is_counted:
        found = _pick_counted(connection, standing, binds, turns)
    else:
        _, found = together(connection, [(_LOCK, binds), (PICK_PLAIN, binds)])
    return _bells(standing.queue, found, turns)


def _bells(queue: str, found: Sequence[tuple[Any, ...]], turns: Turns) -> list[Bell]:
    turns.rung = (turns.rung + len(found)) % CYCLE
    return [
        Bell(queue, kind, ((job_id, attempt),), max(0, loudness), is_limited)
        for job_id, attempt, kind, loudness, is_limited in found
    ]


def _pick_counted(
    connection: Connection, standing: Standing, binds: dict[str, Any], turns: Turns
) -> Sequence[tuple[Any, ...]]:
    lock = _LOCK_PLANNED if turns.took < QUICK else _LOCK_COUNTING
    if not connection.execute(lock, {"queue": standing.queue}).scalars().one():
        return []
    began = time.monotonic()
    groups = zip(standing.projects, standing.kinds, standing.priorities, strict=True)
    after = [turns.last.get(group, "") for group in groups]
    found = connection.execute(PICK_COUNTED, {**binds, "keyed": standing.keyed, "after": after})
    rows = _take_turns(turns, found.all())
    turns.took = time.monotonic() - began
    return [(row.id, row.attempt, row.kind, row.loudness, row.is_limited) for row in rows]


def _take_turns(turns: Turns, rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Those rows that are bells; the others say at which keys the groups have arrived."""
    if len(turns.last) > MOST_REMEMBERED:
        turns.last.clear()
    for row in rows:
        if row.turn_of is not None:
            turns.last[row.project_id, row.kind, row.priority] = row.turn_of
    return [row for row in rows if row.turn_of is None]


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


def forget_passed_over(connection: Connection, after: timedelta) -> int:
    """Bells that have hung for so long while later ones of higher priority were heard; how many.

    They are rung anew, as loud as their jobs' age makes them.
    """
    return connection.execute(_FORGET_PASSED_OVER, {"after": after}).rowcount


def find_next_due(connection: Connection) -> float | None:
    """Seconds until the next job is to be released or has expired; 0 or less: now."""
    row = _NEXT_DUE.first(connection, {})
    assert row is not None
    seconds: float | None = row[0]
    return seconds


def get_epoch(connection: Connection) -> Epoch:
    """The epoch that the marks belong to; before the first, one that no broker is in."""
    connection.execute(_FIRST_EPOCH)
    return Epoch._make(connection.execute(_EPOCH).one())


def begin_epoch(connection: Connection, old: Epoch, new: Epoch) -> bool:
    """The new epoch stands; False when another dispatcher has ended the old one. Locks the row."""
    binds = {"old": old.epoch, "epoch": new.epoch, "run_id": new.run_id}
    return connection.execute(_BEGIN_EPOCH, binds).one_or_none() is not None


_SURVEY = f"""
WITH RECURSIVE {groups("plain", PLAIN)},
{groups("keyed", KEYED)},
{LIVE},
startable AS MATERIALIZED (
    SELECT waiting.* FROM (
        SELECT *, false AS is_keyed FROM plain UNION ALL SELECT *, true FROM keyed
    ) AS waiting
    WHERE {IS_STARTABLE}
),
grouped AS (
    SELECT queue, array_agg(project_id) AS projects, array_agg(kind) AS kinds,
           array_agg(priority) AS priorities, array_agg(is_keyed) AS keyed
    FROM (SELECT * FROM startable ORDER BY {GROUP}, is_keyed) AS sorted GROUP BY queue
)
SELECT coalesce(jsonb_agg(jsonb_build_array(
           served.queue, served.slots,
           (SELECT count(*) FROM job
            WHERE state = 'queued' AND rung_at IS NOT NULL AND job.queue = served.queue),
           coalesce(projects, '{{}}'), coalesce(kinds, '{{}}'), coalesce(priorities, '{{}}'),
           coalesce(keyed, '{{}}'), {IS_LIMITED}
       )), '[]') AS standings,
       (SELECT epoch FROM broker_epoch) AS epoch,
       (SELECT count(*) FROM dispatcher
        WHERE seen_at > clock_timestamp() - CAST(:lease AS interval)) AS dispatchers
FROM (SELECT queue, sum(slots) AS slots FROM live GROUP BY queue) AS served
LEFT JOIN grouped USING (queue)
"""  # noqa: S608


@cache
def _surveyed(lease: timedelta) -> Direct:
    """The survey within that lease, without a parameter, so that its plan is kept.

    With one, PostgreSQL compares what a kept plan costs by the newest statistics with what new
    plans have cost by old ones: after an ANALYZE that met waiting jobs it made a plan for each
    survey, which costs more than all else in it.
    """
    statement = sa.text(_SURVEY.replace(":lease", f"'{lease.total_seconds()} seconds'"))
    name = f"lading_survey_{lease // timedelta(microseconds=1)}"
    return Direct(
        name, statement.columns(standings=sa.JSON, epoch=sa.Uuid, dispatchers=sa.BigInteger)
    )


_QUEUE_LOCK = "pg_try_advisory_xact_lock(hashtextextended('lading.dispatch.' || :queue, 0))"


def _lock(plans: str, scans: str) -> sa.TextClause:
    """Whether the queue is ours, and counting; the rest is for the transaction."""
    return sa.text(f"""
    SELECT {_QUEUE_LOCK} AND pg_try_advisory_xact_lock({COUNTING}),
           set_config('plan_cache_mode', '{plans}', true),
           set_config('enable_seqscan', '{scans}', true)
    """)


# Whoever changes limits waits for those who pick, and these for him: jobs/gates.py. So the lock is
# a statement before the pick, which sees what was committed before.
_LOCK_COUNTING = _lock("auto", "on")
# A plan that is kept may have been made for a small table. So it is held to the indexes, and only
# used as long as looks are quick: else each has a plan of its own, by the table as it is.
_LOCK_PLANNED = _lock("force_generic_plan", "off")
# Marks alone need not be flushed before their bells hang, which nobody would wait for but those who
# want a job started soon: where PostgreSQL loses them it has been killed, and they are rung for
# once more; claims are flushed, and guarded. A rate's spent starts are, too.
_LOCK = Direct(
    "lading_pick_lock",
    sa.text(f"""
SELECT set_config('{HAS_LOCKS}', CAST(
           {_QUEUE_LOCK} AND pg_try_advisory_xact_lock_shared({COUNTING}) AS text
       ), true) AS has_locks,
       set_config('synchronous_commit', 'off', true) AS flushes
""")
    .bindparams(sa.bindparam("queue", type_=sa.Text))
    .columns(has_locks=sa.Text, flushes=sa.Text),
)
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
_FORGET_PASSED_OVER = sa.text("""
WITH passed_over AS (
    SELECT id FROM job
    WHERE state = 'queued' AND rung_at < statement_timestamp() - CAST(:after AS interval)
      AND priority < 9 AND EXISTS (
          SELECT FROM job AS other
          WHERE other.state = 'running' AND other.queue = job.queue
            AND other.priority > job.priority AND other.queued_at > job.rung_at
      )
    FOR UPDATE SKIP LOCKED
)
UPDATE job SET rung_at = NULL WHERE id = ANY (ARRAY (SELECT id FROM passed_over))
""")
#: Whether jobs wait for a bell, or bells for an answer.
IS_ANY_QUEUED = f"""(
    EXISTS (SELECT FROM job WHERE {PLAIN}) OR EXISTS (SELECT FROM job WHERE {KEYED})
    OR EXISTS (SELECT FROM job WHERE state = 'queued' AND rung_at IS NOT NULL)
)"""  # noqa: S608
#: Whether a bell has had no answer for three seconds.
IS_ANY_UNANSWERED = """EXISTS (
    SELECT FROM job
    WHERE state = 'queued' AND rung_at < statement_timestamp() - interval '3 seconds'
)"""
#: Whether a job is to be released, or has expired, within a second.
IS_ANY_DUE = """(
    EXISTS (SELECT FROM job WHERE state IN ('scheduled', 'retrying')
            AND run_at < statement_timestamp() + interval '1 second')
    OR EXISTS (SELECT FROM job
               WHERE expires_at IS NOT NULL AND finished_at IS NULL AND attempt = 0
               AND expires_at < statement_timestamp() + interval '1 second')
)"""
_NEXT_DUE = Direct(
    "lading_next_due",
    sa.text("""
SELECT CAST(extract(epoch FROM least(
    (SELECT run_at FROM job WHERE state IN ('scheduled', 'retrying') ORDER BY run_at LIMIT 1),
    (SELECT expires_at FROM job
     WHERE expires_at IS NOT NULL AND finished_at IS NULL AND attempt = 0
     ORDER BY expires_at LIMIT 1)
) - clock_timestamp()) AS double precision) AS seconds
""").columns(seconds=sa.Float),
)
_FIRST_EPOCH = sa.text("""
INSERT INTO broker_epoch (single, epoch, run_id) VALUES (true, gen_random_uuid(), '')
ON CONFLICT DO NOTHING
""")
_EPOCH = sa.text("SELECT epoch, run_id FROM broker_epoch")
_BEGIN_EPOCH = sa.text("""
UPDATE broker_epoch SET epoch = :epoch, run_id = :run_id WHERE epoch = :old RETURNING epoch
""")
