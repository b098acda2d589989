"""What lets a queued job start, in SQL: the dispatcher picks by it, and explanations name it.

Each text here is one part of a statement. They are shared, so that what is said about a job that
waits cannot differ from why it waits.
"""

TO_RING = "state = 'queued' AND rung_at IS NULL"
PLAIN = f"{TO_RING} AND concurrency_key IS NULL"  #: as the index job_to_ring has it
KEYED = f"{TO_RING} AND concurrency_key IS NOT NULL"  #: as job_keyed_to_ring
HOLDING = "concurrency_key IS NOT NULL AND (state = 'running' OR rung_at IS NOT NULL)"
UNEXPIRED = "(attempt > 0 OR expires_at IS NULL OR expires_at > clock_timestamp())"

#: Something somewhere is limited, beside keys: nothing is rung without being counted.
IS_LIMITED = """(
    EXISTS (SELECT FROM gate
            WHERE scope <> 'key' AND (concurrency IS NOT NULL OR rate_limit IS NOT NULL))
    OR EXISTS (SELECT FROM kind WHERE concurrency IS NOT NULL)
)"""

#: Workers that are alive, a row for each queue that they serve. Bind: lease.
LIVE = """live AS MATERIALIZED (
    SELECT served.queue, worker.slots, worker.kinds
    FROM worker, unnest(worker.queues) AS served (queue)
    WHERE worker.seen_at > clock_timestamp() - CAST(:lease AS interval)
)"""

GROUP = "queue, project_id, kind, priority"  #: what jobs have in common that wait in one order


def groups(name: str, which: str) -> str:
    """The CTE `name` of the groups of jobs `which` wait; in a WITH RECURSIVE.

    It jumps along job_to_ring or job_keyed_to_ring from one group to the next (a loose index scan,
    https://wiki.postgresql.org/wiki/Loose_indexscan), so that its cost is their number, not the
    backlog's.
    """
    return f"""{name} AS (
    (SELECT {GROUP} FROM job WHERE {which} ORDER BY {GROUP} LIMIT 1)
    UNION ALL
    SELECT next.* FROM {name}, LATERAL (
        SELECT {GROUP} FROM job
        WHERE {which}
          AND ({GROUP}) > ({name}.queue, {name}.project_id, {name}.kind, {name}.priority)
        ORDER BY {GROUP} LIMIT 1
    ) AS next
)"""  # noqa: S608 - no value is part of it


#: Of groups that are `waiting`: nobody has paused them.
IS_UNPAUSED = """NOT EXISTS (
        SELECT FROM gate
        WHERE gate.project_id = waiting.project_id AND paused
          AND (scope = 'queue' AND name = waiting.queue OR scope = 'kind' AND name = waiting.kind)
    )"""

#: … and a live worker knows the kind.
IS_STARTABLE = f"""EXISTS (
        SELECT FROM live WHERE live.queue = waiting.queue AND waiting.kind = ANY (live.kinds)
    ) AND {IS_UNPAUSED}"""

#: How the gates stand that `wanted (project_id, scope, name)` names; one that nobody has set is
#: open. `free`: so many more may be rung; NULL: any number. A bell holds a slot like an attempt,
#: and of a rate no more bells hang than may start at once: they could be answered all at a time.
GATES = f"""busy AS MATERIALIZED (
    SELECT project_id, kind, queue, count(*) AS running, 0 AS rung FROM job
    WHERE state = 'running' GROUP BY project_id, kind, queue
    UNION ALL
    SELECT project_id, kind, queue, 0, count(*) FROM job
    WHERE state = 'queued' AND rung_at IS NOT NULL GROUP BY project_id, kind, queue
),
standing_gate AS MATERIALIZED (
    SELECT wanted.*, coalesce(gate.paused, false) AS paused,
           gate.pause_reason, gate.paused_by, gate.paused_at, gate.rate_limit, gate.rate_seconds,
           gate.rate_burst, gate.changed_at,
           coalesce(gate.concurrency, known.concurrency) AS concurrency,
           gate.rate_seconds / gate.rate_limit AS spacing,
           greatest(0, extract(epoch FROM gate.rate_spent_until - statement_timestamp()))
               ::double precision AS debt
    FROM wanted
    LEFT JOIN gate USING (project_id, scope, name)
    LEFT JOIN kind AS known ON wanted.scope = 'kind' AND known.name = wanted.name
),
gates AS MATERIALIZED (
    SELECT standing_gate.*, held.running, held.rung, bucket.tokens,
           CASE WHEN spacing IS NOT NULL THEN
               statement_timestamp() + greatest(0, debt - (rate_burst - 1) * spacing)
               * interval '1 s'
           END AS next_start_at,
           CASE WHEN paused THEN 0 WHEN concurrency IS NOT NULL OR spacing IS NOT NULL THEN
               greatest(0, least(concurrency - held.running - held.rung,
                                 bucket.tokens, rate_burst - held.rung))::integer
           END AS free
    FROM standing_gate,
    LATERAL (
        SELECT coalesce(sum(running), 0)::integer AS running,
               coalesce(sum(rung), 0)::integer AS rung FROM (
            SELECT CAST(job.state = 'running' AS integer) AS running,
                   CAST(job.rung_at IS NOT NULL AS integer) AS rung
            FROM job
            WHERE standing_gate.scope = 'key' AND (concurrency IS NOT NULL OR spacing IS NOT NULL)
              AND {HOLDING}
              AND job.project_id = standing_gate.project_id
              AND job.concurrency_key = standing_gate.name
            UNION ALL
            SELECT busy.running, busy.rung FROM busy
            WHERE standing_gate.scope <> 'key' AND (concurrency IS NOT NULL OR spacing IS NOT NULL)
              AND busy.project_id = standing_gate.project_id
              AND CASE standing_gate.scope WHEN 'kind' THEN busy.kind ELSE busy.queue END
                  = standing_gate.name
        ) AS each
    ) AS held,
    LATERAL (
        SELECT CASE WHEN spacing IS NOT NULL
               THEN greatest(0, floor(rate_burst - coalesce(debt, 0) / spacing + 1e-6)) END
            AS tokens
    ) AS bucket
)"""  # noqa: S608 - no value is part of it
