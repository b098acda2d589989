"""Whether jobs fit their own histories: the law of `jobs.states.Move`, read back from the log.

A job's state, version, attempt, budgets and cancel request follow from its events alone, and each
attempt that has ended and each step has a row of its own. Since a move is one statement, that is so
in every snapshot: whatever is found here is damage, never a moment in between.
"""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.attempts import Outcome
from jobs.ids import FIRST, LAST
from jobs.states import FINAL, JobState, Move

BORN = (JobState.WAITING, JobState.SCHEDULED, JobState.QUEUED)  #: states that `created` may tell


MOST_JOBS = 5000  # that are looked at together


class Damage(NamedTuple):
    """A job that is not what its history says, and all that is wrong with it."""

    job_id: UUID
    reasons: list[str]  #: the names in CHECKS


def find_damage(
    connection: Connection, first: UUID = FIRST, last: UUID = LAST, limit: int = 1000
) -> list[Damage]:
    """At most `limit` of the damaged jobs between `first` and `last`, both included, by id.

    One statement; it reads each event of these jobs once, some 2 µs each. For the rest of its
    transaction PostgreSQL uses no nested loops: it takes a stretch of ids for a single row, and
    would read all attempts anew for each event.
    """
    connection.execute(_NO_LOOPS)
    rows = connection.execute(_DAMAGED, {"first": first, "last": last, "limit": limit})
    return [Damage._make(row) for row in rows]


def find_reach(connection: Connection, after: UUID, events: int) -> UUID:
    """The last of the jobs above `after` that have about so many events together; LAST: all have.

    Reads some thousand rows at most. One job is always among them.
    """
    binds = {"after": after, "events": events, "most": MOST_JOBS}
    reach = connection.execute(_REACH, binds).scalar_one()
    assert isinstance(reach, UUID)
    return reach


def _words(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


_TARGETS = {move.event: move.target for move in Move}
_SOURCES = {
    event: {source for move in Move if move.event == event for source in move.sources}
    for event in _TARGETS
}
_TARGET = "\n".join(f"WHEN '{event}' THEN '{state}'" for event, state in _TARGETS.items())
_LEGAL = "\n".join(
    f"WHEN '{event}' THEN source IN ({_words(states)})" for event, states in _SOURCES.items()
)
_ENDS = _words({move.event for move in Move if move.ends_attempt})
#: What the row of an attempt may say, by the event that ended it. An attempt that died stays
#: `crashed` where that ended a job that was to be cancelled; one whose holder came back too late
#: is `lease_lost`, whatever had become of its job.
_OUTCOMES = {
    "succeeded": {Outcome.SUCCEEDED},
    "retrying": {Outcome.RETRIED},
    "failed": {Outcome.FAILED, Outcome.CRASHED, Outcome.LEASE_LOST},
    "crashed": {Outcome.CRASHED, Outcome.LEASE_LOST},
    "interrupted": {Outcome.INTERRUPTED, Outcome.LEASE_LOST},
    "cancelled": {Outcome.CANCELLED, Outcome.CRASHED, Outcome.INTERRUPTED, Outcome.LEASE_LOST},
}
_FITTING = "\n".join(
    f"WHEN '{event}' THEN outcome IN ({_words(outcomes)})" for event, outcomes in _OUTCOMES.items()
)
#: Each check's name, and when it fails; `told` is what the events tell, `job` the row.
CHECKS = {
    "no_job": "job.id IS NULL",
    "no_history": "told.job_id IS NULL",
    "gap_in_history": "told.first <> 1 OR told.newest <> told.events",
    "illegal_move": "told.illegal > 0",
    "wrong_seq": "job.seq <> told.newest",
    "wrong_state": "CAST(job.state AS text) <> told.state",
    "wrong_attempt": "job.attempt <> told.starts OR told.misnumbered > 0",
    # A retry that somebody asks for zeroes the budgets. From `retrying` it looks like a release,
    # so that there are as many possible beginnings as there were releases since the last sure one.
    "wrong_budgets": """
        job.id = told.job_id AND NOT EXISTS (
            SELECT FROM unnest(told.failures_at, told.crashes_at) AS base (failures, crashes)
            WHERE base.failures >= told.failures_afresh AND base.crashes >= told.crashes_afresh
              AND job.failures = told.failures - base.failures
              AND job.crashes = told.crashes - base.crashes
        )""",
    "wrong_cancel_request": "job.cancel_requested <> (told.requests > told.requests_afresh)",
    "attempt_not_recorded": "told.unrecorded > 0",
    "attempt_never_made": "coalesce(made.attempts, 0) > told.recorded",
    "wrong_parents": """
        told.state = 'waiting' AND job.parents_left > 0 AND job.parents_left <> (
            SELECT count(*) FROM job_dependency AS tie WHERE tie.job_id = job.id
        )""",
    "wrong_steps": "coalesce(stored.steps, 0) <> told.steps",
}
_NO_LOOPS = sa.text("SET LOCAL enable_nestloop = off")
_CHECKS = ",\n".join(f"CASE WHEN {broken} THEN '{name}' END" for name, broken in CHECKS.items())
# Names of states, events and outcomes only; every value is bound.
_DAMAGED = sa.text(f"""
WITH ended AS MATERIALIZED (
    SELECT job_id, attempt, outcome FROM job_attempt WHERE job_id BETWEEN :first AND :last
),
line AS (
    SELECT job_id, seq, type, attempt,
           CASE type {_TARGET} WHEN 'created' THEN data ->> 'state'
                WHEN 'reprioritised' THEN data ->> 'state' END AS target
    FROM job_event WHERE job_id BETWEEN :first AND :last
),
step AS (
    SELECT *, lag(target) OVER history AS source,
           row_number() OVER history AS place,
           lead(seq) OVER history IS NULL AS is_newest,
           count(*) FILTER (WHERE type = 'started') OVER history AS starts
    FROM line WINDOW history AS (PARTITION BY job_id ORDER BY seq)
),
closed AS (
    SELECT step.*, ended.outcome,
           source = 'running' AND type IN ({_ENDS}) AS is_end,
           type = 'queued' AND source IN ({_words(FINAL)}) AS is_afresh
    FROM step
    LEFT JOIN ended ON ended.job_id = step.job_id AND ended.attempt = step.attempt
        AND source = 'running' AND type IN ({_ENDS})
),
counted AS (
    SELECT *,
           count(*) FILTER (WHERE type = 'retrying' OR (type = 'failed' AND outcome = 'failed'))
               OVER history AS failures,
           count(*) FILTER (WHERE type = 'crashed' OR (type = 'failed' AND outcome <> 'failed'))
               OVER history AS crashes,
           count(*) FILTER (WHERE type = 'cancel_requested') OVER history AS requests
    FROM closed
    WINDOW history AS (PARTITION BY job_id ORDER BY seq)
),
told AS (
    SELECT job_id, count(*) AS events, min(seq) AS first, max(seq) AS newest,
           max(target) FILTER (WHERE is_newest) AS state,
           max(starts) AS starts,
           count(*) FILTER (WHERE attempt <> starts) AS misnumbered,
           count(*) FILTER (WHERE NOT coalesce(CASE type
               WHEN 'created' THEN place = 1 AND target IN ({_words(BORN)})
               WHEN 'reprioritised' THEN source = target AND target NOT IN ({_words(FINAL)})
               {_LEGAL} END, false)) AS illegal,
           max(failures) AS failures, max(crashes) AS crashes, max(requests) AS requests,
           coalesce(max(failures) FILTER (WHERE is_afresh), 0) AS failures_afresh,
           coalesce(max(crashes) FILTER (WHERE is_afresh), 0) AS crashes_afresh,
           coalesce(max(requests) FILTER (WHERE is_afresh), 0) AS requests_afresh,
           array_agg(failures) FILTER (WHERE place = 1 OR type = 'queued') AS failures_at,
           array_agg(crashes) FILTER (WHERE place = 1 OR type = 'queued') AS crashes_at,
           count(*) FILTER (WHERE is_end AND NOT coalesce(CASE type
               {_FITTING} END, false)) AS unrecorded,
           count(*) FILTER (WHERE is_end AND outcome IS NOT NULL) AS recorded,
           count(*) FILTER (WHERE type = 'step') AS steps
    FROM counted GROUP BY job_id
),
made AS (
    SELECT job_id, count(*) AS attempts FROM ended GROUP BY job_id
),
stored AS (
    SELECT job_id, count(*) AS steps FROM job_step
    WHERE job_id BETWEEN :first AND :last GROUP BY job_id
),
row AS (
    SELECT id, state, seq, attempt, failures, crashes, cancel_requested, parents_left
    FROM job WHERE id BETWEEN :first AND :last
),
judged AS (
    SELECT coalesce(job.id, told.job_id, made.job_id, stored.job_id) AS id,
           array_remove(ARRAY[{_CHECKS}], NULL) AS reasons
    FROM row AS job
    FULL JOIN told ON told.job_id = job.id
    FULL JOIN made ON made.job_id = coalesce(job.id, told.job_id)
    FULL JOIN stored ON stored.job_id = coalesce(job.id, told.job_id, made.job_id)
)
SELECT id, reasons FROM judged WHERE cardinality(reasons) > 0 ORDER BY id LIMIT :limit
""")  # noqa: S608 - see above
_REACH = sa.text(f"""
WITH next AS (
    SELECT id, sum(seq) OVER (ORDER BY id) - seq AS before
    FROM (SELECT id, seq FROM job WHERE id > :after ORDER BY id LIMIT :most) AS job
)
SELECT CASE WHEN count(*) < :most AND count(*) = count(*) FILTER (WHERE before < :events)
       THEN CAST('{LAST}' AS uuid)
       ELSE CAST(max(CAST(id AS text) COLLATE "C") FILTER (WHERE before < :events) AS uuid) END
FROM next
""")  # noqa: S608 - see above
