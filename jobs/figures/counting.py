"""Counts what the log of all jobs tells, each event once, and reads the counts.

The log is read by its snapshot positions (jobs.feed), and the position is saved in the transaction
that counts: whatever is killed between, nothing is counted twice or passed over. Only jobs that
were deleted within seconds of their end are missing.
"""

from collections import defaultdict
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.events import ENDINGS, planned_anew
from jobs.feed import Place, Position, has_gone_on, next_window, read_position, window

#: Upper bounds in seconds; the last bucket has none.
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
MOST_KINDS = 200  # that are told apart: 28 series each; the others are one
OTHER = "other"
_NAME = "figures"
IS_ANY = has_gone_on(_NAME)  #: whether there may be something to count


class Measure(StrEnum):
    """What is counted."""

    FINISHED = "finished"  #: jobs, by the state that they ended in
    RUN = "run"  #: attempts, by how long they ran
    WAIT = "wait"  #: starts, by how long the job was in the queue before


class Figure(NamedTuple):
    """So many of a kind, and how many seconds they took together."""

    kind: str
    measure: Measure
    label: str  #: the state, or the number of the bucket: 0 … len(BUCKETS)
    times: int
    seconds: float


def count_ended(connection: Connection, limit: int) -> bool | None:
    """Some `limit` of the next events are counted; whether these were the last.

    None: another process is at it. In a transaction; locks the position.
    """
    row = connection.execute(_LOCK, {"name": _NAME}).one_or_none()
    now = read_position(connection)
    if row is None:
        binds = {"name": _NAME, "position": now.text()}
        return True if connection.execute(_BEGIN, binds).rowcount == 1 else None
    begun = Position.parse(row.position)
    if begun is None or begun.epoch != now.epoch:
        begun = now  # the database is another one, or was restored: what it has is counted already
    after, is_last = begun.place.after, True
    until = after
    if after != now.place.after:
        with planned_anew(connection):
            until, is_last = next_window(connection, after, now.place.after, limit)
            more: dict[str, Any] = {
                **window(after, until),
                "bounds": [*BUCKETS],
                "endings": [*ENDINGS],
            }
            found = [Figure._make(each) for each in connection.execute(_MEASURED, more)]
        _add(connection, found)
    position = Position(now.epoch, Place(until)).text()
    if position != row.position:
        connection.execute(_SAVE, {"name": _NAME, "position": position})
    return is_last


def read_figures(connection: Connection) -> list[Figure]:
    """All of them, by kind."""
    return [
        Figure(row.kind, Measure(row.measure), row.label, row.times, row.seconds)
        for row in connection.execute(_READ)
    ]


def _add(connection: Connection, found: list[Figure]) -> None:
    if not found:
        return
    known = {*connection.execute(_KINDS).scalars()}
    sums: defaultdict[tuple[str, str, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for figure in sorted(found):
        if figure.kind not in known and len(known) < MOST_KINDS:
            known.add(figure.kind)
        kind = figure.kind if figure.kind in known else OTHER
        count, seconds = sums[kind, figure.measure, figure.label]
        sums[kind, figure.measure, figure.label] = (count + figure.times, seconds + figure.seconds)
    rows = [(*name, *values) for name, values in sums.items()]
    names = ("kinds", "measures", "labels", "counts", "seconds")
    columns = zip(*rows, strict=True)
    connection.execute(_ADD, {name: [*column] for name, column in zip(names, columns, strict=True)})


_LOCK = sa.text("SELECT position FROM bus_position WHERE name = :name FOR UPDATE SKIP LOCKED")
# Where the row is, another process has it, and an insert would wait for that.
_BEGIN = sa.text("""
INSERT INTO bus_position (name, position) SELECT CAST(:name AS text), :position
WHERE NOT EXISTS (SELECT FROM bus_position WHERE name = CAST(:name AS text))
ON CONFLICT DO NOTHING
""")
_SAVE = sa.text("UPDATE bus_position SET position = :position WHERE name = :name")
# An attempt that ended has a row of the same moment as its event. A job waits from the event that
# has brought it into the queue.
_MEASURED = sa.text("""
WITH fresh AS MATERIALIZED (
    SELECT job_id, seq, type, attempt, at FROM job_event WHERE xact_id = ANY(:ended)
    UNION ALL
    SELECT job_id, seq, type, attempt, at FROM job_event
    WHERE xact_id >= :first AND xact_id < :end AND xact_id <> ALL(:running)
),
took AS (
    SELECT job_id, 'run' AS measure, ended.finished_at - ended.started_at AS time
    FROM fresh JOIN job_attempt AS ended USING (job_id, attempt)
    WHERE ended.finished_at = fresh.at AND fresh.type <> 'started'
    UNION ALL
    SELECT fresh.job_id, 'wait', fresh.at - queued.at
    FROM fresh, LATERAL (
        SELECT at FROM job_event AS earlier
        WHERE earlier.job_id = fresh.job_id AND earlier.seq < fresh.seq
          AND earlier.type IN ('created', 'queued', 'crashed', 'interrupted')
        ORDER BY earlier.seq DESC LIMIT 1
    ) AS queued
    WHERE fresh.type = 'started'
),
each AS (
    SELECT job_id, measure, greatest(0, extract(epoch FROM time))::double precision AS seconds,
           NULL AS outcome
    FROM took
    UNION ALL
    SELECT job_id, 'finished', 0, type FROM fresh WHERE type = ANY(:endings)
)
SELECT job.kind, measure,
       coalesce(outcome, width_bucket(seconds, CAST(:bounds AS double precision[]))::text) AS label,
       count(*), sum(seconds)
FROM each JOIN job ON job.id = each.job_id
GROUP BY 1, 2, 3
""")
_KINDS = sa.text("SELECT DISTINCT kind FROM job_figure")
_ADD = sa.text("""
INSERT INTO job_figure (kind, measure, label, times, seconds)
SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:measures AS text[]), CAST(:labels AS text[]),
                     CAST(:counts AS bigint[]), CAST(:seconds AS double precision[]))
ON CONFLICT (kind, measure, label) DO UPDATE
SET times = job_figure.times + excluded.times, seconds = job_figure.seconds + excluded.seconds
""")
_READ = sa.text("SELECT kind, measure, label, times, seconds FROM job_figure ORDER BY kind")
