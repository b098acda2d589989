"""What inserts new jobs, their `created` events and the intake count; and the jobs with ties."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.models import STATE
from jobs.submissions import NewJob
from jobs.views import JobView


class BoundRow(NamedTuple):
    """A job that is not alone in the world."""

    project_id: str
    job: NewJob
    parents_left: int
    batch_id: UUID | None


def insert_bound(
    connection: Connection, rows: Sequence[BoundRow], process_id: UUID
) -> dict[UUID, JobView]:
    """Those of the jobs that nothing stood in the way of: an id, or a unique key."""
    if not rows:
        return {}
    names = ("project_id", *PLAIN, *_BOUND)
    bound = [(row.project_id, *row.job[: len(PLAIN)], *_key(row.job), *_ties(row)) for row in rows]
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*bound, strict=True)), strict=True))
    result = connection.execute(_INSERT_BOUND, {**columns, "process_id": process_id})
    return {row["id"]: JobView(**row) for row in result.mappings()}


def _key(job: NewJob) -> tuple[str | None, str | None]:
    return (None, None) if job.unique is None else (job.unique.key, job.unique.scope)


def _ties(row: BoundRow) -> tuple[str | None, int, UUID | None]:
    named = (*row.job.after, *row.job.behind)
    after = "{" + ",".join(map(str, named)) + "}" if named else None
    return after, row.parents_left, row.batch_id


#: The first fields of NewJob, as PostgreSQL has them.
PLAIN = {
    "id": "uuid",
    "kind": "text",
    "queue": "text",
    "priority": "smallint",
    "args": "text",
    "redacted_args": "text",
    "labels": "text",
    "max_attempts": "integer",
    "timeout_seconds": "double precision",
    "run_at": "timestamptz",
    "delay_seconds": "double precision",
    "expires_seconds": "double precision",
    "parent_id": "uuid",
    "rerun_of": "uuid",
    "schedule_id": "uuid",
    "concurrency_key": "text",
    "concurrency_limit": "integer",
}
_BOUND = {
    "unique_key": "text",
    "unique_scope": "text",
    "after": "text",
    "parents_left": "integer",
    "batch_id": "uuid",
}
_SHOWN = ", ".join(name for name in JobView._fields if name != "args")


def insertion(
    types: Mapping[str, str], *, returned: str, more: str = "", values: str = "", end: str = ""
) -> str:
    """The beginning of a statement that inserts jobs and their events from bound arrays.

    Names of columns only; every value is bound. `job` and `clock` may be read by what follows.
    """
    arrays = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in types.items())
    waits = "row.parents_left > 0" if more else "false"
    return f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
new AS (
    SELECT row.*, clock.now, due.run_at AS due,
           CASE WHEN {waits} THEN 'waiting' WHEN due.run_at > clock.now THEN 'scheduled'
                ELSE 'queued' END AS state
    FROM unnest({arrays}) AS row ({", ".join(types)}), clock,
    LATERAL (SELECT coalesce(row.run_at, clock.now + row.delay_seconds * interval '1 s') AS run_at)
        AS due
),
job AS (
    INSERT INTO job (id, project_id, kind, queue, priority, args, redacted_args, labels,
                     max_attempts, timeout_seconds, parent_id, rerun_of, schedule_id,
                     concurrency_key, concurrency_limit, state, seq, created_at, run_at, queued_at,
                     expires_at{more})
    SELECT id, project_id, kind, queue, priority, args::jsonb, redacted_args::jsonb, labels::jsonb,
           max_attempts, timeout_seconds, parent_id, rerun_of, schedule_id,
           concurrency_key, concurrency_limit, state::job_state, 1, now, due,
           CASE state WHEN 'queued' THEN now END,
           coalesce(due, now) + expires_seconds * interval '1 s'{values}
    FROM new {end}
    RETURNING {returned}
),
event AS (
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    SELECT id, 1, 'created', created_at, 0, jsonb_build_object('state', state) FROM job
)"""  # noqa: S608 - see above


#: A limit that stands already is not touched, so that nobody waits for another.
LIMITED = """\
limited AS (
    INSERT INTO gate (project_id, scope, name, concurrency)
    SELECT DISTINCT ON (project_id, concurrency_key)
           project_id, 'key', concurrency_key, concurrency_limit
    FROM job WHERE concurrency_limit IS NOT NULL AND NOT EXISTS (
        SELECT FROM gate WHERE gate.project_id = job.project_id AND scope = 'key'
          AND name = concurrency_key AND concurrency = concurrency_limit
    )
    ORDER BY project_id, concurrency_key, id DESC
    ON CONFLICT (project_id, scope, name)
    DO UPDATE SET concurrency = excluded.concurrency, changed_at = clock_timestamp()
)"""
COUNTED = """\
counted AS (
    INSERT INTO intake_total (process_id, bucket, accepted)
    SELECT CAST(:process_id AS uuid), left(CAST(id AS text), 8) AS bucket, count(*)
    FROM job GROUP BY bucket ORDER BY bucket
    ON CONFLICT (bucket, process_id)
    DO UPDATE SET accepted = intake_total.accepted + excluded.accepted
)"""
# In the order of the keys, so that two requests that bring several never wait for each other.
_INSERT_BOUND = sa.text(
    ",\n".join(
        (
            insertion(
                {"project_id": "text", **PLAIN, **_BOUND},
                returned="*",
                more=f", {', '.join(_BOUND)}",
                values=", unique_key, unique_scope, after::uuid[], parents_left, batch_id",
                end="ORDER BY unique_key ON CONFLICT DO NOTHING",
            ),
            LIMITED,
            COUNTED,
        )
    )
    + f"\nSELECT {_SHOWN}, coalesce(redacted_args, args) AS args FROM job"
).columns(state=STATE, args=JSONB, result=JSONB, error=JSONB, progress=JSONB, labels=JSONB)
