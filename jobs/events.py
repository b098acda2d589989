"""The event log as its readers take it: in the order of `seq`, without gaps.

A job's row and its events come from one statement, so they fit together: whether a final event is
the last one is told by the row, for a manual retry may have gone on after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.errors import JobNotFound
from jobs.states import FINAL, Move
from jobs.views import EventView

ENDINGS = frozenset(move.event for move in Move if move.target in FINAL)  #: types of final events

MOST_BYTES = 128 * 1024  # of data, as stored, in what is read of one job: log lines may be long


class History(NamedTuple):
    """Some of a job's events, and how far they go."""

    seq: int  #: of the job's newest event, among these or not
    is_final: bool  #: the newest event ended the job
    events: list[EventView]

    @property
    def is_cut(self) -> bool:
        """There is more to read."""
        return self.events[-1].seq < self.seq


class News(NamedTuple):
    """What has happened to many jobs."""

    histories: dict[bytes, History]  #: of the jobs that have gone on, by the text of their ids
    gone: set[bytes]  #: jobs that were deleted
    is_whole: bool  #: False: the limit was reached, so that jobs may be missing


def key_of(job_id: UUID) -> bytes:
    """Its text: what hints begin with, and news are told by."""
    return str(job_id).encode()


def list_events(
    connection: Connection, project_id: str, job_id: UUID, after: int, limit: int
) -> list[EventView]:
    """The next events of the project's job after that `seq`: `limit` or fewer. JobNotFound.

    Only an empty list means that there are no more.
    """
    return read_history(connection, project_id, job_id, after, limit).events


def read_history(
    connection: Connection, project_id: str, job_id: UUID, after: int, limit: int
) -> History:
    """The next events after that `seq`, as list_events has them, and how far the history goes."""
    binds = {"project": project_id, **_binds({key_of(job_id): after}, limit)}
    with planned_anew(connection):
        rows = [*connection.execute(_HISTORY, binds)]
    if not rows:
        raise JobNotFound(job_id)
    return History(rows[0].newest, rows[0].is_final, [*_events(rows)])


def read_news(connection: Connection, afters: Mapping[bytes, int], limit: int) -> News:
    """Each job's next events after the `seq` that stands beside its id: at most `limit` in all.

    One statement, whatever the number of jobs; it finds each by its key.
    """
    with planned_anew(connection):
        rows = [*connection.execute(_NEWS, _binds(afters, limit))]
    histories: dict[bytes, History] = {}
    gone = set[bytes]()
    for row in rows:
        key = key_of(row.job_id)
        if row.newest is None:
            gone.add(key)
        else:
            known = histories.setdefault(key, History(row.newest, row.is_final, []))
            known.events.extend(_events([row]))
    return News(histories, gone, is_whole=len(rows) < limit)


_SELECT = """
SELECT wanted.id AS job_id, job.seq AS newest, job.finished_at IS NOT NULL AS is_final,
       event.seq, event.type, event.at, event.attempt, event.data
FROM unnest(CAST(:ids AS uuid[]), CAST(:afters AS bigint[])) AS wanted (id, after)
LEFT JOIN job ON job.id = wanted.id
LEFT JOIN LATERAL (
    SELECT seq, type, at, attempt, data FROM (
        SELECT *, sum(pg_column_size(data))
                  OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM job_event WHERE job_event.job_id = job.id AND job_event.seq > wanted.after
        ORDER BY seq LIMIT :limit
    ) AS next WHERE before IS NULL OR before < :most_bytes
) AS event ON true
"""
_TYPES = {"data": JSONB}
_HISTORY = sa.text(f"{_SELECT} WHERE job.project_id = :project").columns(**_TYPES)
_NEWS = sa.text(f"{_SELECT} WHERE job.id IS NULL OR job.seq > wanted.after LIMIT :limit").columns(
    **_TYPES
)


def _binds(afters: Mapping[bytes, int], limit: int) -> dict[str, Any]:
    # Written here: the driver's own way takes 3 µs an id, and streams ask for thousands at a time.
    ids, seqs = b",".join(afters).decode(), ",".join(map(str, afters.values()))
    wanted = {"ids": f"{{{ids}}}", "afters": f"{{{seqs}}}"}
    return {**wanted, "limit": limit, "most_bytes": MOST_BYTES}


def _events(rows: Sequence[sa.Row[Any]]) -> Iterator[EventView]:
    for row in rows:
        if row.seq is not None:
            yield EventView(row.job_id, row.seq, row.type, row.at, row.attempt, row.data)


@contextmanager
def planned_anew(connection: Connection) -> Iterator[None]:
    """Inside, statements are not prepared.

    A plan that was kept from when the tables were small would read them whole for each job.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    kept, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield
    finally:
        driver.prepare_threshold = kept
