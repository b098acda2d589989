"""Accepting jobs: rows, `created` events, idempotency keys and the intake count, together or not.

The row is the outbox: nothing else has to happen for the job to run one day. The edge commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.errors import JobDeleted, JobsError, KeyReused
from jobs.lifecycle import Moved
from jobs.models import STATE, IdempotencyKey, Job
from jobs.submissions import NewJob
from jobs.views import JobView, job_columns


@dataclass(frozen=True, slots=True)
class Intake:
    """What one request brings: its jobs, all or none, under at most one key."""

    project_id: str
    jobs: Sequence[NewJob]
    key: str | None = None  #: Idempotency-Key
    fingerprint: bytes = b""  #: of the request, where it has a key


@dataclass(frozen=True, slots=True)
class Accepted:
    """The jobs of a request in its order, as they are now."""

    jobs: list[JobView] = field(default_factory=list)
    replayed: bool = False  #: an earlier request with the same key made them


def enqueue(
    connection: Connection, intakes: Sequence[Intake], *, process_id: UUID
) -> list[Accepted | JobsError]:
    """Each intake's jobs exist as queued or scheduled, or its refusal stands in the result.

    Refused are, without touching the others, KeyReused and JobDeleted; no two intakes may bring
    the same key. Locks: the keys in their order, where a twin that has not committed yet makes
    this wait for up to `lock_timeout` (then OperationalError, and nothing is done); and the
    process's own rows of intake_total.
    """
    taken = _take_keys(connection, [intake for intake in intakes if intake.key is not None])
    is_new = [each.key is None or (each.project_id, each.key) in taken for each in intakes]
    inserted = _insert(connection, list(compress(intakes, is_new)), process_id)
    return [
        Accepted([inserted[job.id] for job in intake.jobs]) if new else _replay(connection, intake)
        for intake, new in zip(intakes, is_new, strict=True)
    ]


def created(project_id: str, job: JobView) -> Moved:
    """The event that came with the new job's row."""
    return Moved(
        id=job.id,
        project_id=project_id,
        queue=job.queue,
        state=job.state,
        attempt=0,
        cancel_requested=False,
        seq=1,
        type="created",
        at=job.created_at,
        data={"state": str(job.state)},
    )


def _take_keys(connection: Connection, intakes: Sequence[Intake]) -> set[tuple[str, str]]:
    if not intakes:
        return set()
    keyed = sorted(intakes, key=lambda intake: (intake.project_id, intake.key or ""))
    taken = connection.execute(
        _TAKE_KEYS,
        {
            "projects": [intake.project_id for intake in keyed],
            "keys": [intake.key for intake in keyed],
            "fingerprints": [intake.fingerprint for intake in keyed],
            "jobs": ["{" + ",".join(str(job.id) for job in each.jobs) + "}" for each in keyed],
        },
    )
    return {(row[0], row[1]) for row in taken}


def _replay(connection: Connection, intake: Intake) -> Accepted | JobsError:
    key = intake.key or ""
    seen = connection.execute(
        sa.select(
            col(IdempotencyKey.fingerprint),
            col(IdempotencyKey.job_ids),
            col(IdempotencyKey.created_at),
        ).where(col(IdempotencyKey.project_id) == intake.project_id, col(IdempotencyKey.key) == key)
    ).one()
    if seen.fingerprint != intake.fingerprint:
        return KeyReused(key, seen.created_at)
    statement = sa.select(*job_columns()).where(col(Job.id).in_(seen.job_ids))
    found = {row[0]: JobView._make(row) for row in connection.execute(statement)}
    if len(found) < len(seen.job_ids):
        return JobDeleted(key)
    # A commit whose answer was lost is tried again with the same ids: then it is no replay.
    ours = {job.id for job in intake.jobs}
    return Accepted([found[job_id] for job_id in seen.job_ids], replayed=ours != set(found))


# In the order of the keys, so that two groups never wait for each other.
_TAKE_KEYS = sa.text("""
INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids)
SELECT project_id, key, fingerprint, job_ids::uuid[]
FROM unnest(CAST(:projects AS text[]), CAST(:keys AS text[]), CAST(:fingerprints AS bytea[]),
            CAST(:jobs AS text[])) AS row (project_id, key, fingerprint, job_ids)
ON CONFLICT DO NOTHING
RETURNING project_id, key
""")
_TYPES = {
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
}
_COLUMNS = ", ".join(NewJob._fields)
_ARRAYS = ", ".join(f"CAST(:{name} AS {_TYPES[name]}[])" for name in NewJob._fields)
_SHOWN = ", ".join(name for name in JobView._fields if name != "args")
# Names of columns only; every value is bound.
_INSERT = sa.text(f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
new AS (
    SELECT row.*, clock.now, due.run_at AS due,
           CASE WHEN due.run_at > clock.now THEN 'scheduled' ELSE 'queued' END AS state
    FROM unnest(CAST(:project_id AS text[]), {_ARRAYS}) AS row (project_id, {_COLUMNS}), clock,
    LATERAL (SELECT coalesce(row.run_at, clock.now + row.delay_seconds * interval '1 s') AS run_at)
        AS due
),
job AS (
    INSERT INTO job (id, project_id, kind, queue, priority, args, redacted_args, labels,
                     max_attempts, timeout_seconds, parent_id, rerun_of, schedule_id, state, seq,
                     created_at, run_at, queued_at, expires_at)
    SELECT id, project_id, kind, queue, priority, args::jsonb, redacted_args::jsonb, labels::jsonb,
           max_attempts, timeout_seconds, parent_id, rerun_of, schedule_id, state::job_state, 1,
           now, due, CASE state WHEN 'queued' THEN now END,
           coalesce(due, now) + expires_seconds * interval '1 s'
    FROM new
    RETURNING *
),
event AS (
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    SELECT id, 1, 'created', created_at, 0, jsonb_build_object('state', state) FROM job
),
counted AS (
    INSERT INTO intake_total (process_id, bucket, accepted)
    SELECT CAST(:process_id AS uuid), left(CAST(id AS text), 8) AS bucket, count(*)
    FROM new GROUP BY bucket ORDER BY bucket
    ON CONFLICT (bucket, process_id)
    DO UPDATE SET accepted = intake_total.accepted + excluded.accepted
)
SELECT {_SHOWN}, coalesce(redacted_args, args) AS args FROM job
""").columns(  # noqa: S608 - see above
    state=STATE, args=JSONB, result=JSONB, error=JSONB, progress=JSONB, labels=JSONB
)


def _insert(
    connection: Connection, intakes: Sequence[Intake], process_id: UUID
) -> dict[UUID, JobView]:
    rows = [(intake.project_id, *job) for intake in intakes for job in intake.jobs]
    if not rows:
        return {}
    columns: dict[str, Any] = dict(
        zip(("project_id", *NewJob._fields), map(list, zip(*rows, strict=True)), strict=True)
    )
    result = connection.execute(_INSERT, {**columns, "process_id": process_id})
    return {row["id"]: JobView(**row) for row in result.mappings()}
