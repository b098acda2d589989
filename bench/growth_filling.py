"""Finished jobs by the million, as the platform would have left them, made by SQL alone.

Ids and times lie evenly over the last days, in order, as they would have come. Triggers and foreign
keys are off meanwhile: what is written keeps their law, and `python -m jobs.audit` says so.
"""

import time
from collections.abc import Iterator

import psycopg

DAYS = 6.0  # up to now; nothing of it is old enough for the retention that is set
PORTION = 50_000  # jobs a statement
WORKER = "01900000-0000-7000-8000-000000000001"  # has long gone


def fill(url: str, jobs: int) -> float:
    """So many jobs are in the database, of which nothing is left to do; the seconds it took."""
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        binds = {"jobs": jobs, "days": DAYS, "worker": WORKER}
        for first, last in _portions(jobs):
            connection.execute(_FILL, {**binds, "first": first, "last": last})
        connection.execute("VACUUM (ANALYZE) job, job_event, job_attempt, intake_total")
        connection.execute("CHECKPOINT")
    return time.monotonic() - began


def _portions(jobs: int) -> Iterator[tuple[int, int]]:
    for first in range(0, jobs, PORTION):
        yield first, min(first + PORTION, jobs) - 1


# One job of a thousand is of a rare kind, another in a rare queue; four of a hundred failed, two
# were cancelled before their start. The transaction that wrote the events is an old one for all
# feeds: what they read begins behind it.
_FILL = """
WITH row AS MATERIALIZED (
    SELECT number, clock_timestamp() - (1 - (number + 0.5) / %(jobs)s) * %(days)s * interval '1 d'
               AS at,
           CASE WHEN number %% 100 < 4 THEN 'failed' WHEN number %% 100 < 6 THEN 'cancelled'
                ELSE 'succeeded' END AS state
    FROM generate_series(CAST(%(first)s AS bigint), %(last)s) AS number
),
born AS MATERIALIZED (
    SELECT *, CAST(state <> 'cancelled' AS integer) AS attempts,
           lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0') AS time
    FROM row
),
new AS MATERIALIZED (
    SELECT *, CAST(time || '7000' || '8000' || lpad(to_hex(number), 12, '0') AS uuid) AS id
    FROM born
),
job AS (
    INSERT INTO job (id, kind, state, queue, priority, args, labels, attempt, failures,
                     max_attempts, seq, error, created_at, queued_at, started_at, finished_at,
                     worker)
    SELECT id,
           CASE WHEN number %% 1000 = 500 THEN 'bench.rare' WHEN number %% 10 < 6 THEN 'bench.noop'
                ELSE 'bench.kind-' || number %% 10 END,
           CAST(state AS job_state),
           CASE WHEN number %% 1000 = 600 THEN 'bench-rare' WHEN number %% 10 = 9 THEN 'io'
                ELSE 'default' END,
           5, '{"token": "", "seconds": 0}',
           CASE WHEN number %% 3 = 0
                THEN jsonb_build_object('tier', 'gold', 'customer', CAST(number %% 1000 AS text))
                ELSE '{}' END,
           attempts, CAST(state = 'failed' AS integer), 1, 2 + attempts,
           CASE state WHEN 'failed' THEN CAST('{"cause": "failed", "type": "ValueError",
                "message": "no such customer"}' AS jsonb) END,
           at, at, CASE attempts WHEN 1 THEN at + interval '5 ms' END, at + interval '9 ms',
           CASE attempts WHEN 1 THEN CAST(%(worker)s AS uuid) END
    FROM new
),
event AS (
    INSERT INTO job_event (job_id, seq, type, at, attempt, data, xact_id)
    SELECT id, seq, type, at + (seq - 1) * interval '4.5 ms', made, data, 3
    FROM new, LATERAL (
        SELECT 1 AS seq, 'created' AS type, 0 AS made, jsonb_build_object('state', 'queued') AS data
        UNION ALL
        SELECT 2, 'started', 1, jsonb_build_object('worker', %(worker)s) WHERE attempts = 1
        UNION ALL
        SELECT 2 + attempts, state, attempts, CASE state
               WHEN 'cancelled' THEN jsonb_build_object('reason', 'not wanted')
               WHEN 'failed' THEN jsonb_build_object('error', jsonb_build_object(
                   'cause', 'failed', 'type', 'ValueError', 'message', 'no such customer'))
               ELSE '{}' END
    ) AS line
),
attempt AS (
    INSERT INTO job_attempt (job_id, attempt, worker, started_at, finished_at, outcome, cause,
                             max_rss_bytes, cpu_seconds)
    SELECT id, 1, CAST(%(worker)s AS uuid), at + interval '5 ms', at + interval '9 ms', state,
           CASE state WHEN 'failed' THEN 'failed' END, 90000000, 0.001
    FROM new WHERE attempts = 1
)
INSERT INTO intake_total (bucket, process_id, accepted)
SELECT left(time, 8), CAST('00000000-0000-0000-0000-000000000000' AS uuid), count(*)
FROM new GROUP BY 1
ON CONFLICT (bucket, process_id) DO UPDATE SET accepted = intake_total.accepted + excluded.accepted
"""
