"""Idempotency keys: who comes first makes the jobs, who comes later gets them."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.enqueue.intake import Accepted, Intake
from jobs.errors import JobDeleted, JobsError, KeyReused
from jobs.models import IdempotencyKey, Job
from jobs.views import JobView, job_columns


def take(connection: Connection, intakes: Sequence[Intake]) -> set[tuple[str, str]]:
    """Those of the keys that nobody has used, which are theirs now."""
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


def replay(connection: Connection, intake: Intake) -> Accepted | JobsError:
    """The jobs that the key has made, as they are now; or KeyReused, or JobDeleted."""
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


def give_back(connection: Connection, intake: Intake) -> None:
    """The key is as unused as before: what was asked with it is refused."""
    if intake.key is not None:
        connection.execute(sa.delete(IdempotencyKey).where(*_ours(intake)))


def point_to(connection: Connection, intake: Intake, jobs: Sequence[JobView]) -> None:
    """The key leads to these jobs, which are others than those that it came with."""
    if intake.key is not None:
        ids = [job.id for job in jobs]
        connection.execute(sa.update(IdempotencyKey).where(*_ours(intake)).values(job_ids=ids))


def _ours(intake: Intake) -> list[sa.ColumnElement[bool]]:
    return [
        col(IdempotencyKey.project_id) == intake.project_id,
        col(IdempotencyKey.key) == intake.key,
    ]


# In the order of the keys, so that two groups never wait for each other.
_TAKE_KEYS = sa.text("""
INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids)
SELECT project_id, key, fingerprint, job_ids::uuid[]
FROM unnest(CAST(:projects AS text[]), CAST(:keys AS text[]), CAST(:fingerprints AS bytea[]),
            CAST(:jobs AS text[])) AS row (project_id, key, fingerprint, job_ids)
ON CONFLICT DO NOTHING
RETURNING project_id, key
""")
