"""The running accounts: whether every accepted job is there, alive or truly ended.

Three checks, each exact in the snapshot of its one statement, none of which blocks anybody: what is
overdue (jobs.overdue), whether as many jobs are there as were accepted and not removed
(jobs.balance), and whether each fits its history (jobs.histories). To be cheap beside ten million
finished jobs they go through the table in slices: the live jobs and the newest balance at every
look, the histories once they are SETTLED_AFTER old, and everything again in passes that are spread
over time. What is found stands in `account_finding` until it is not found there any more.

Several dispatchers may look: the row of `account_check` belongs to one of them at a time, and tells
how far they have come together. The caller commits each slice.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import balance, histories, overdue
from jobs.ids import FIRST, LAST, first_id, next_id

SETTLED_AFTER = timedelta(minutes=2)  # from a job's birth: most have ended, all are committed
BEHIND_AT_MOST = timedelta(hours=1)  # what is older is left to the next whole pass
SHORTEST_REST = timedelta(minutes=1)  # between two whole passes; else as long as the pass took, …
LONGEST_REST = timedelta(hours=1)  # … but for so long
COUNTED_NO_MORE = timedelta(minutes=10)  # the age of rows of intake_total that are added up


class Found(NamedTuple):
    """So many jobs are unaccounted for; `id` is of the only one, or tells where they are."""

    id: UUID
    reason: str
    jobs: int


class Walk(NamedTuple):
    """A check that goes through the table in slices."""

    name: str
    reasons: Sequence[str]
    reach: Callable[[Connection, UUID, int], UUID]  #: the end of a slice after an id, by its size
    look: Callable[[Connection, UUID, UUID], list[Found]]
    most: int  #: the largest size of a slice
    behind: timedelta | None = None  #: how far it stays behind the newest; None: again and again


class Standing(NamedTuple):
    """What the dispatchers have found last."""

    unaccounted: dict[str, int]  #: jobs by reason; each reason is there
    checked_at: datetime | None  #: None: never
    ages: dict[str, float]  #: seconds since each check has seen everything, of those that have


def rest_quietly(connection: Connection, lease: timedelta) -> bool:
    """Whether there is nothing to look at: then the checks of what is new have seen just that.

    No job is alive or waited for, nothing is found, none of the newest buckets counts or has a
    job, and the whole passes rest. One statement, instead of some twenty that would find the same.
    """
    binds = {
        "lease": lease,
        "last": LAST,
        "shortest": SHORTEST_REST,
        "longest": LONGEST_REST,
        "news": list(_NEWS),
    }
    return len(connection.execute(_QUIET, binds).all()) == len(_NEWS)


def check_overdue(connection: Connection, lease: timedelta) -> None:
    """What is overdue now stands in the findings, and what is not any more has gone."""
    row = _enter(connection, "overdue")
    if row is None:
        return
    is_interrupted = row.checked_at is None or row.now - row.checked_at > lease
    since = row.now if is_interrupted else row.began_at
    late = [
        Found(each.first, each.reason, each.jobs)
        for each in overdue.find_overdue(connection, lease, since)
    ]
    _store(connection, overdue.REASONS, FIRST, LAST, late)
    _leave(connection, "overdue", LAST, began_at=since, is_whole=True)


def check_newest(connection: Connection) -> None:
    """The buckets of the last SETTLED_AFTER balance, or stand in the findings."""
    row = _enter(connection, "newest")
    if row is None:
        return
    first = balance.first_of(balance.bucket_of(first_id(row.now - SETTLED_AFTER)))
    _store(connection, balance.REASONS, first, LAST, _compare(connection, first, LAST))
    _leave(connection, "newest", LAST, began_at=row.now, is_whole=True)


def settle(connection: Connection) -> None:
    """What was counted a while ago is added up. As the balance itself does, it blocks nobody."""
    now = connection.execute(_NOW).scalar_one()
    balance.settle(connection, now - COUNTED_NO_MORE)


def advance(connection: Connection, walk: Walk, size: int) -> bool:
    """The walk has gone on by about `size`; whether there is more to see."""
    row = _enter(connection, walk.name)
    if row is None:
        return False
    after, end, began_at = row.position, LAST, row.began_at or row.now
    if walk.behind is not None:
        end = first_id(row.now - walk.behind)
        after = max(after, first_id(row.now - BEHIND_AT_MOST))
    elif after == LAST:
        if row.now < row.ended_at + _rest(connection, row.ended_at - began_at):
            return False
        after, began_at = FIRST, row.now
    if after >= end:
        return False
    reach = min(walk.reach(connection, after, size), end)
    first = next_id(after)
    _store(connection, walk.reasons, first, reach, walk.look(connection, first, reach))
    _leave(connection, walk.name, reach, began_at=began_at, is_whole=reach == end)
    return reach != end


def read_standing(connection: Connection) -> Standing:
    """What any process can tell of the accounts."""
    found = {row.reason: row.jobs for row in connection.execute(_FOUND)}
    checks = connection.execute(_CHECKED).all()
    checked_at = next((row.checked_at for row in checks if row.name == "overdue"), None)
    ages = {row.name: row.age for row in checks if row.age is not None}
    return Standing({reason: found.get(reason, 0) for reason in REASONS}, checked_at, ages)


def _compare(connection: Connection, first: UUID, last: UUID) -> list[Found]:
    return [
        Found(each.first, each.reason, abs(each.expected - each.present))
        for each in balance.compare(connection, first, last)
    ]


def _read_histories(connection: Connection, first: UUID, last: UUID) -> list[Found]:
    return [
        Found(damage.job_id, reason, 1)
        for damage in histories.find_damage(connection, first, last)
        for reason in damage.reasons[:1]
    ]


_HISTORIES = (tuple(histories.CHECKS), histories.find_reach, _read_histories, 20_000)  # events
WALKS = (
    Walk("balance", balance.REASONS, balance.find_reach, _compare, 100_000),  # jobs
    Walk("new histories", *_HISTORIES, behind=SETTLED_AFTER),
    Walk("histories", *_HISTORIES),
)
REASONS = (*overdue.REASONS, *balance.REASONS, *histories.CHECKS)


def _enter(connection: Connection, name: str) -> sa.Row[Any] | None:
    """The check's row, which is ours until the commit; None: another dispatcher is at it."""
    row = connection.execute(_ENTER, {"name": name}).one_or_none()
    if row is not None:
        return row
    connection.execute(_FIRST_TIME, {"name": name})
    return connection.execute(_ENTER, {"name": name}).one_or_none()


def _leave(
    connection: Connection, name: str, position: UUID, *, began_at: datetime, is_whole: bool
) -> None:
    binds = {"name": name, "position": position, "began_at": began_at, "is_whole": is_whole}
    connection.execute(_LEAVE, binds)


def _rest(connection: Connection, took: timedelta) -> timedelta:
    """Whoever mends what was found wants to see soon that it is gone."""
    if connection.execute(_ANY).scalar_one():
        return SHORTEST_REST
    return min(max(took, SHORTEST_REST), LONGEST_REST)


def _store(
    connection: Connection, reasons: Sequence[str], first: UUID, last: UUID, found: list[Found]
) -> None:
    """Between `first` and `last` these are the findings of these reasons, and the only ones."""
    binds = {
        "ids": [each.id for each in found],
        "found": [each.reason for each in found],
        "jobs": [each.jobs for each in found],
    }
    connection.execute(_FORGET, {**binds, "reasons": list(reasons), "first": first, "last": last})
    if found:
        connection.execute(_KEEP, binds)


_NOW = sa.select(sa.func.clock_timestamp())
_FIRST_TIME = sa.text("""
INSERT INTO account_check (name) SELECT CAST(:name AS text)
WHERE NOT EXISTS (SELECT FROM account_check WHERE name = :name) ON CONFLICT DO NOTHING
""")
_ENTER = sa.text("""
SELECT position, checked_at, began_at, ended_at, clock_timestamp() AS now
FROM account_check WHERE name = :name FOR UPDATE SKIP LOCKED
""")
_LEAVE = sa.text("""
UPDATE account_check
SET position = :position, began_at = :began_at, checked_at = clock_timestamp(),
    ended_at = CASE WHEN :is_whole THEN clock_timestamp() ELSE ended_at END
WHERE name = :name
""")
_NEWS = ("overdue", "newest", "new histories")
# `newest` looks from the bucket on that holds what was two minutes old at its last turn, which is
# where `new histories` has come to by then: nothing is there, and nothing has come since.
_NOTHING_SINCE = "\n".join(
    f"AND NOT EXISTS (SELECT FROM {table} WHERE {column} >= (SELECT id FROM reached))"  # noqa: S608 - names of tables only
    for table, column in {
        "job": "id",
        "job_event": "job_id",
        "job_attempt": "job_id",
        "job_step": "job_id",
    }.items()
)
_QUIET = sa.text(f"""
WITH reached AS MATERIALIZED (
    SELECT left(CAST(position AS text), 8) AS bucket,
           CAST(rpad(left(CAST(position AS text), 8), 32, '0') AS uuid) AS id
    FROM account_check WHERE name = 'new histories' AND ended_at IS NOT NULL
),
ours AS (
    SELECT name FROM account_check
    WHERE name = ANY (CAST(:news AS text[]))
      AND checked_at > clock_timestamp() - CAST(:lease AS interval)
    FOR UPDATE SKIP LOCKED
),
quiet AS MATERIALIZED (
    SELECT clock_timestamp() AS now FROM reached
    WHERE (SELECT count(*) FROM ours) = cardinality(CAST(:news AS text[]))
      AND (SELECT count(*) FROM account_check
           WHERE name IN ('balance', 'histories') AND position = :last
             AND clock_timestamp() < ended_at + least(
                 greatest(ended_at - began_at, CAST(:shortest AS interval)),
                 CAST(:longest AS interval))) = 2
      AND NOT EXISTS (SELECT FROM account_finding)
      AND NOT EXISTS (SELECT FROM job WHERE finished_at IS NULL)
      AND NOT EXISTS (SELECT FROM job_dependency)
      AND NOT EXISTS (SELECT FROM intake_total WHERE bucket >= (SELECT bucket FROM reached))
      {_NOTHING_SINCE}
)
UPDATE account_check
SET checked_at = now, ended_at = now, began_at = CASE name WHEN 'overdue' THEN began_at ELSE now END
FROM quiet WHERE name IN (SELECT name FROM ours)
RETURNING name
""")  # noqa: S608 - names of tables only
_ANY = sa.text("SELECT EXISTS (SELECT FROM account_finding)")
_FORGET = sa.text("""
DELETE FROM account_finding
WHERE id BETWEEN :first AND :last AND reason = ANY (CAST(:reasons AS text[]))
  AND NOT EXISTS (
      SELECT FROM unnest(CAST(:ids AS uuid[]), CAST(:found AS text[]), CAST(:jobs AS bigint[]))
          AS found (id, reason, jobs)
      WHERE found.id = account_finding.id AND found.reason = account_finding.reason
  )
""")
_KEEP = sa.text("""
INSERT INTO account_finding (id, reason, jobs)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:found AS text[]), CAST(:jobs AS bigint[]))
ON CONFLICT (id, reason) DO UPDATE SET jobs = excluded.jobs
""")
_FOUND = sa.text(
    "SELECT reason, CAST(sum(jobs) AS bigint) AS jobs FROM account_finding GROUP BY reason"
)
_CHECKED = sa.text("""
SELECT name, checked_at,
       CAST(extract(epoch FROM clock_timestamp() - ended_at) AS double precision) AS age
FROM account_check
""")
