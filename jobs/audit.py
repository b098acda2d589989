"""The whole truth about a database: every promise that can be checked, checked in one snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.histories import find_damage


class Finding(NamedTuple):
    """One thing that must not be."""

    check: str  #: the name of the promise that is broken
    job_id: UUID | None  #: None: it is no single job's
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit saw."""

    at: datetime  #: by the database's clock
    jobs: int
    events: int
    findings: list[Finding]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def audit(connection: Connection) -> Audit:
    """All invariants of the whole database, in one snapshot that blocks nobody.

    The connection has begun no transaction, and is no autocommit one (ValueError); afterwards it
    is in a read-only transaction that the caller ends.
    """
    _take_snapshot(connection)
    counts = connection.execute(_COUNTS).one()
    return Audit(counts.at, counts.jobs, counts.events, [*_findings(connection)])


def _take_snapshot(connection: Connection) -> None:
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    level = connection.execute(sa.text("SHOW transaction_isolation")).scalar_one()
    if level != "repeatable read":
        raise ValueError("an autocommit connection has no snapshot")
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def _findings(connection: Connection) -> Iterator[Finding]:
    for damage in find_damage(connection):
        for reason in damage.reasons:
            yield Finding(reason, damage.job_id)
    balance = connection.execute(_BALANCE).one()
    if balance.expected != balance.present:
        detail = f"{balance.expected} were accepted and not removed, {balance.present} are there"
        yield Finding("accounts do not balance", None, detail)


_COUNTS = sa.text("""
SELECT clock_timestamp() AS at, (SELECT count(*) FROM job) AS jobs,
       (SELECT count(*) FROM job_event) AS events
""")
_BALANCE = sa.text("""
SELECT (SELECT coalesce(sum(accepted - removed), 0) FROM intake_total) AS expected,
       (SELECT count(*) FROM job) AS present
""")
