"""The rows of new jobs with their `created` events and the intake count, in one statement."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.models import STATE
from jobs.submissions import NewJob
from jobs.trail.tallies import ADD_UP, Tally, tally_binds
from jobs.views import JobView


class BoundRow(NamedTuple):
    """A job that is not alone in the world."""

    project_id: str
    job: NewJob
    parents_left: int
    batch_id: UUID | None


def insert_plain(
    connection: Connection,
    rows: Sequence[tuple[str, NewJob]],
    process_id: UUID,
    tallies: Sequence[Tally] = (),
) -> dict[UUID, JobView]:
    """The projects' jobs by their ids. IntegrityError when one of the ids is there.

    The audit trail tells of them by the `tallies`, if there are any.
    """
    if not rows:
        return {}
    plain = [(project_id, *job[: len(_PLAIN)]) for project_id, job in rows]
    names = ("project_id", *_PLAIN)
    more = {"process_id": process_id}
    if not tallies:
        return _insert(connection, _INSERT, names, plain, more)
    return _insert(connection, _INSERT_TOLD, names, plain, {**more, **tally_binds(tallies)})


def insert_bound(
    connection: Connection, rows: Sequence[BoundRow], process_id: UUID
) -> dict[UUID, JobView]:
    """Those of the jobs that nothing stood in the way of: an id, or a unique key."""
    if not rows:
        return {}
    more = {"process_id": process_id}
    bound = [(row.project_id, *row.job[: len(_PLAIN)], *_key(row.job), *_ties(row)) for row in rows]
    return _insert(connection, _INSERT_BOUND, ("project_id", *_PLAIN, *_BOUND), bound, more)


def _key(job: NewJob) -> tuple[str | None, str | None]:
    return (None, None) if job.unique is None else (job.unique.key, job.unique.scope)


def _ties(row: BoundRow) -> tuple[str | None, int, UUID | None]:
    named = (*row.job.after, *row.job.behind)
    after = "{" + ",".join(map(str, named)) + "}" if named else None
    return after, row.parents_left, row.batch_id


def _insert(
    connection: Connection,
    statement: sa.TextualSelect,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    more: Mapping[str, Any],
) -> dict[UUID, JobView]:
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    result = connection.execute(statement, {**columns, **more})
    return {row["id"]: JobView(**row) for row in result.mappings()}


#: The first fields of NewJob, as PostgreSQL has them.
_PLAIN = {
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


def _statement(
    types: Mapping[str, str], more: str, values: str, end: str, told: str = ""
) -> sa.TextualSelect:
    """Names of columns only; every value is bound."""
    arrays = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in types.items())
    waits = "row.parents_left > 0" if more else "false"
    return sa.text(f"""
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
    RETURNING *
),
event AS (
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    SELECT id, 1, 'created', created_at, 0, jsonb_build_object('state', state) FROM job
),
limited AS ( -- a limit that stands already is not touched, so that nobody waits for another
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
),
counted AS (
    INSERT INTO intake_total (process_id, bucket, accepted)
    SELECT CAST(:process_id AS uuid), left(CAST(id AS text), 8) AS bucket, count(*)
    FROM job GROUP BY bucket ORDER BY bucket
    ON CONFLICT (bucket, process_id)
    DO UPDATE SET accepted = intake_total.accepted + excluded.accepted
){told}
SELECT {_SHOWN}, coalesce(redacted_args, args) AS args FROM job
""").columns(  # noqa: S608 - see above
        state=STATE, args=JSONB, result=JSONB, error=JSONB, progress=JSONB, labels=JSONB
    )


_INSERT = _statement({"project_id": "text", **_PLAIN}, "", "", "")
_INSERT_TOLD = _statement({"project_id": "text", **_PLAIN}, "", "", "", f",\ntold AS ({ADD_UP})")
# In the order of the keys, so that two requests that bring several never wait for each other.
_INSERT_BOUND = _statement(
    {"project_id": "text", **_PLAIN, **_BOUND},
    f", {', '.join(_BOUND)}",
    ", unique_key, unique_scope, after::uuid[], parents_left, batch_id",
    "ORDER BY unique_key ON CONFLICT DO NOTHING",
)
