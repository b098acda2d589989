"""Intakes that are not plain: unique keys, jobs that wait for others, webhooks, batches.

Whether a unique key is free is decided by the unique indexes of `job`, when the row is inserted.
What was looked up before only says what to do about the job that has the key.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs import lifecycle
from jobs.enqueue import hooks, keys
from jobs.enqueue.intake import Accepted, Intake, NewBatch
from jobs.enqueue.rows import BoundRow, insert_bound
from jobs.errors import (
    BatchClosed,
    BatchNotFound,
    Flaw,
    InvalidSubmission,
    JobsError,
    UniqueConflict,
)
from jobs.lifecycle import Moved
from jobs.models import Job
from jobs.states import FINAL, JobState
from jobs.submissions import NewJob
from jobs.views import JobView, job_columns

TRIES = 3  # a key that goes from job to job so often while it is looked at is taken
REPLACED = "replaced"  #: the reason of a job that made way


def enter(connection: Connection, intake: Intake, process_id: UUID) -> Accepted | JobsError:
    """The intake's jobs exist, or nothing of it does, not even its key. In a transaction."""
    try:
        with connection.begin_nested():
            accepted = _place(connection, intake, process_id)
    except JobsError as refusal:
        return _find_own(connection, intake) or _refuse(connection, intake, refusal)
    if accepted.found:
        keys.point_to(connection, intake, accepted.jobs)
    return accepted


def _refuse(connection: Connection, intake: Intake, refusal: JobsError) -> JobsError:
    keys.give_back(connection, intake)
    return refusal


def _find_own(connection: Connection, intake: Intake) -> Accepted | None:
    """The jobs, where a commit whose answer was lost had made them."""
    ids = [job.id for job in intake.jobs]
    found = _find(connection, ids)
    return Accepted([found[each] for each in ids if each in found]) if found else None


def _place(connection: Connection, intake: Intake, process_id: UUID) -> Accepted:
    project_id, batch = intake.project_id, intake.batch
    batch_id, callbacks = (batch.id, batch.callbacks) if batch else (None, [])
    unmet = _find_unmet(connection, intake)
    if batch is not None:
        _open_batch(connection, project_id, batch)
    rows = [BoundRow(project_id, job, len(unmet.get(job.id, ())), batch_id) for job in intake.jobs]
    rows += [BoundRow(project_id, job, 1, None) for job in callbacks]
    made, found, moved = _insert(connection, rows, process_id)
    hooks.attach(connection, project_id, (row.job for row in rows if row.job.id in made))
    _wait(connection, [job for job in intake.jobs if job.id in made], unmet)
    if batch is not None:
        _count(connection, batch, sum(job.id in made for job in intake.jobs))
    views = made | _find(connection, found.values())
    return Accepted(
        [views[found.get(job.id, job.id)] for job in intake.jobs],
        found=frozenset(found.values()),
        callbacks=[made[job.id] for job in callbacks],
        moved=moved,
    )


def _insert(
    connection: Connection, rows: Sequence[BoundRow], process_id: UUID
) -> tuple[dict[UUID, JobView], dict[UUID, UUID], list[Moved]]:
    """The jobs that were made; those that stand for others, by their ids; what made way."""
    made: dict[UUID, JobView] = {}
    found: dict[UUID, UUID] = {}
    moved: list[Moved] = []
    left = list(rows)
    for _ in range(TRIES):
        moved += _make_way(connection, left, found)
        left = [row for row in left if row.job.id not in found]
        made |= insert_bound(connection, left, process_id)
        left = [row for row in left if row.job.id not in made]
        if not left:
            return made, found, moved
    keyed = [row.job.unique.key for row in left if row.job.unique is not None]
    raise UniqueConflict(keyed[0] if keyed else "", None)


def _make_way(
    connection: Connection, rows: Sequence[BoundRow], found: dict[UUID, UUID]
) -> list[Moved]:
    """What is known to have the keys of these jobs has gone, or stands in `found`, as they asked.

    UniqueConflict when it stays. Locks what goes.
    """
    asked = {row.job.id: (row.project_id, row.job.unique) for row in rows if row.job.unique}
    if not asked:
        return []
    binds = {
        "ids": [*asked],
        "projects": [project_id for project_id, _ in asked.values()],
        "keys": [unique.key for _, unique in asked.values()],
        "scopes": [unique.scope for _, unique in asked.values()],
    }
    moved: list[Moved] = []
    for row in connection.execute(_HOLDERS, binds).all():
        project_id, unique = asked[row.job]
        if unique.on_conflict == "return":
            found[row.job] = row.id
        elif unique.on_conflict == "reject" or row.state == JobState.RUNNING:
            raise UniqueConflict(unique.key, row.id)
        elif replaced := lifecycle.cancel_idle(connection, project_id, row.id, REPLACED):
            moved.append(replaced)
    return moved


def _find_unmet(connection: Connection, intake: Intake) -> dict[UUID, list[UUID]]:
    """The parents that have not succeeded, or ended, by the jobs that wait for them.

    InvalidSubmission: there is no such job. Success is for good, so this stays true; whatever else
    becomes of a parent, the dispatcher sees.
    """
    named = {parent for job in intake.jobs for parent in (*job.after, *job.behind)}
    if not named:
        return {}
    statement = sa.select(col(Job.id), col(Job.state)).where(
        col(Job.id).in_(named), col(Job.project_id) == intake.project_id
    )
    states = {row.id: row.state for row in connection.execute(statement)}
    flaws: list[Flaw] = []
    unmet: dict[UUID, list[UUID]] = {}
    for job in intake.jobs:
        flaws += [
            Flaw(f"{job.pointer}/after/{number}", f"there is no job {parent}")
            for number, parent in enumerate(job.after)
            if parent not in states
        ]
        waits = [each for each in job.after if states.get(each) is not JobState.SUCCEEDED]
        waits += [each for each in job.behind if each in states and states[each] not in FINAL]
        if waits:
            unmet[job.id] = waits
        states[job.id] = JobState.QUEUED  # for those that come after it
    if flaws:
        raise InvalidSubmission(*flaws)
    return unmet


def _wait(
    connection: Connection, jobs: Iterable[NewJob], unmet: Mapping[UUID, Sequence[UUID]]
) -> None:
    ties = [
        (parent, job.id, parent in job.behind) for job in jobs for parent in unmet.get(job.id, ())
    ]
    if ties:
        parents, children, ends = map(list, zip(*ties, strict=True))
        connection.execute(_WAIT, {"parents": parents, "jobs": children, "ends": ends})


def _open_batch(connection: Connection, project_id: str, batch: NewBatch) -> None:
    """The batch exists with its callbacks' ties, or is open and ours until the commit."""
    if batch.is_new:
        binds = {
            "id": batch.id,
            "project": project_id,
            "policy": batch.failure_policy,
            "is_open": batch.is_open,
            "on_complete": batch.on_complete and batch.on_complete.id,
            "on_success": batch.on_success and batch.on_success.id,
        }
        connection.execute(_NEW_BATCH, binds)
        if batch.callbacks:
            callbacks = [job.id for job in batch.callbacks]
            connection.execute(_AWAIT_BATCH, {"id": batch.id, "jobs": callbacks})
        return
    is_open = connection.execute(_LOCK_BATCH, {"id": batch.id, "project": project_id}).one_or_none()
    if is_open is None:
        raise BatchNotFound(batch.id)
    if not is_open[0]:
        raise BatchClosed(batch.id, "adding jobs")


def _count(connection: Connection, batch: NewBatch, jobs: int) -> None:
    binds = {"id": batch.id, "jobs": jobs, "is_open": batch.is_open}
    connection.execute(_COUNT, binds)


def _find(connection: Connection, ids: Collection[UUID]) -> dict[UUID, JobView]:
    if not ids:
        return {}
    statement = sa.select(*job_columns()).where(col(Job.id).in_(ids))
    return {row[0]: JobView._make(row) for row in connection.execute(statement)}


# Whoever has not ended is in the way of what wants to be the only active one; of what wants to be
# the only queued one, whoever has not started. Of two that are in the way, the older comes first.
_HOLDERS = sa.text("""
SELECT asked.id AS job, held.id, CAST(held.state AS text) AS state
FROM unnest(CAST(:ids AS uuid[]), CAST(:projects AS text[]), CAST(:keys AS text[]),
            CAST(:scopes AS text[])) AS asked (id, project_id, key, scope),
LATERAL (
    SELECT id, state FROM job
    WHERE project_id = asked.project_id AND unique_key = asked.key AND finished_at IS NULL
      AND id <> asked.id
      AND (asked.scope = 'active'
           OR (CAST(state AS text) IN ('waiting', 'scheduled', 'queued') AND attempt = 0))
    ORDER BY id LIMIT 1
) AS held
ORDER BY asked.key
""")
_WAIT = sa.text("""
INSERT INTO job_dependency (parent_id, job_id, any_end)
SELECT * FROM unnest(CAST(:parents AS uuid[]), CAST(:jobs AS uuid[]), CAST(:ends AS boolean[]))
""")
_NEW_BATCH = sa.text("""
INSERT INTO batch (id, project_id, failure_policy, is_open, jobs, on_complete, on_success)
VALUES (:id, :project, :policy, :is_open, 0, :on_complete, :on_success)
ON CONFLICT DO NOTHING
""")
_AWAIT_BATCH = sa.text("""
INSERT INTO job_dependency (parent_id, job_id, is_told)
SELECT :id, job_id, true FROM unnest(CAST(:jobs AS uuid[])) AS job_id ON CONFLICT DO NOTHING
""")
_LOCK_BATCH = sa.text(
    "SELECT is_open FROM batch WHERE id = :id AND project_id = :project FOR NO KEY UPDATE"
)
_COUNT = sa.text("UPDATE batch SET jobs = jobs + :jobs, is_open = :is_open WHERE id = :id")
