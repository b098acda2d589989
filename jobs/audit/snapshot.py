"""An audit: set-based queries, all in the same snapshot, that change nothing and block nobody."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import balance, histories, overdue
from jobs.ids import FIRST, LAST

MOST_DAMAGED = 100_000  # jobs that are named: more is a catastrophe, which needs no list
KEY_CHECKS = ("key_without_job", "key_of_another_project", "key_of_unknown_jobs")
CHECKS = (*balance.REASONS, "unsettled", *overdue.REASONS, *histories.CHECKS, *KEY_CHECKS)


class Finding(NamedTuple):
    """One thing that must not be."""

    check: str  #: which promise is broken, of CHECKS
    job_id: UUID | None  #: None: it is no single job's
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit saw."""

    at: datetime  #: of the snapshot, by the database's clock
    jobs: int
    events: int
    findings: list[Finding]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def counts(self) -> dict[str, int]:
        """How much each check has found; each is there."""
        counts = dict.fromkeys(CHECKS, 0)
        for finding in self.findings:
            counts[finding.check] += 1
        return counts


def audit(connection: Connection, lease: timedelta = timedelta(seconds=30)) -> Audit:
    """All invariants of the whole database, which may be in use; `lease` is the platform's.

    The connection has begun no transaction, and is no autocommit one (ValueError); afterwards it
    is in a read-only transaction that the caller ends. Some 20 µs a job.
    """
    _take_snapshot(connection)
    return inspect(connection, lease)


def inspect(connection: Connection, lease: timedelta) -> Audit:
    """The same in the transaction that there is; it should see one snapshot."""
    seen = connection.execute(_SEEN).one()
    findings = [
        *_find_imbalance(connection),
        *_find_overdue(connection, lease),
        *_find_damage(connection),
        *_find_keys(connection),
    ]
    return Audit(seen.at, seen.jobs, seen.events, findings)


def _take_snapshot(connection: Connection) -> None:
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    level = connection.execute(sa.text("SHOW transaction_isolation")).scalar_one()
    if level != "repeatable read":
        raise ValueError("an autocommit connection has no snapshot")
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def _find_imbalance(connection: Connection) -> Iterator[Finding]:
    for each in balance.compare(connection):
        last = balance.last_of(balance.bucket_of(each.first))
        detail = f"{each.expected} accepted and not removed, {each.present} there, up to {last}"
        yield Finding(each.reason, each.first, detail)
    unsettled = connection.execute(_UNSETTLED).scalar_one()
    if unsettled:
        detail = f"of the jobs that were all removed, {unsettled} were not"
        yield Finding("unsettled", None, detail)


def _find_overdue(connection: Connection, lease: timedelta) -> Iterator[Finding]:
    for each in overdue.find_overdue(connection, lease):
        yield Finding(each.reason, each.first, f"and in all {each.jobs}")


def _find_damage(connection: Connection) -> Iterator[Finding]:
    for damage in histories.find_damage(connection, FIRST, LAST, MOST_DAMAGED):
        for reason in damage.reasons:
            yield Finding(reason, damage.job_id)


def _find_keys(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(_KEYS):
        yield Finding(row.reason, row.job_id, row.detail)


_SEEN = sa.text("""
SELECT transaction_timestamp() AS at, (SELECT count(*) FROM job) AS jobs,
       (SELECT count(*) FROM job_event) AS events
""")
_UNSETTLED = sa.text(
    "SELECT coalesce(sum(accepted - removed), 0)::bigint FROM intake_total WHERE bucket = ''"
)
# A key outlives its jobs; but no more of them can be gone than were removed.
_KEYS = sa.text("""
WITH named AS (
    SELECT project_id, key, unnest(job_ids) AS job_id FROM idempotency_key
),
gone AS (
    SELECT count(DISTINCT job_id) AS jobs, min(key) AS key
    FROM named WHERE NOT EXISTS (SELECT FROM job WHERE job.id = named.job_id)
)
SELECT 'key_without_job' AS reason, CAST(NULL AS uuid) AS job_id, 'key ' || key AS detail
FROM idempotency_key WHERE cardinality(job_ids) = 0
UNION ALL
SELECT 'key_of_another_project', job.id, 'key ' || named.key
FROM named JOIN job ON job.id = named.job_id WHERE job.project_id <> named.project_id
UNION ALL
SELECT 'key_of_unknown_jobs', NULL, gone.jobs || ' named and gone, ' || total.removed || ' removed'
FROM gone, (SELECT coalesce(sum(removed), 0) AS removed FROM intake_total) AS total
WHERE gone.jobs > total.removed
""")
