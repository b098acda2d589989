"""The jobs of ticks: new ones, in the place of older ones where the schedule says so.

All of it is part of the transaction that decides the ticks (jobs/schedules/firing.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import documents
from jobs.enqueue import Accepted, Intake, created, enqueue_unblocked
from jobs.errors import InvalidTransition, JobNotFound, JobsError, UniqueConflict
from jobs.lifecycle import Moved, cancel
from jobs.schedules.forms import Form
from jobs.schedules.models import Misfire, Outcome, Overlap, Reason
from jobs.submissions import NewJob, read_ties

TICK_LABEL = "lading.tick"  #: on each job: the planned time, with the offset of the zone
CANCELLED = "the next tick of its schedule has come"  # the reason in the old job's event


class DueSchedule(NamedTuple):
    """A schedule as it was read, with what its jobs get."""

    id: UUID
    project_id: str
    version: int
    next_at: datetime
    now: datetime  #: the database's, at the reading
    form: Form
    misfire: Misfire
    misfire_max: int
    overlap: Overlap
    kind: str
    queue: str
    priority: int
    args: str
    redacted_args: str | None
    labels: dict[str, str]
    ties: dict[str, Any]
    sealed: bytes | None
    max_attempts: int
    timeout_seconds: float | None
    expires_seconds: float | None


class Tick(NamedTuple):
    """A time of a schedule, and what becomes of it."""

    schedule: DueSchedule
    at: datetime
    job_id: UUID | None  #: that is to be made; None: it is skipped
    reason: Reason | None = None
    ticks: int = 1  #: this one, and those before it that share its line


def make_jobs(
    connection: Connection,
    ticks: Sequence[Tick],
    live: Mapping[UUID, Sequence[UUID]],
    process_id: UUID,
) -> tuple[list[Tick], list[Moved]]:
    """The ticks that have made their jobs; the others are skipped, for another has the key.

    `live` are the schedules' jobs that have not ended; those that unique keys keep from being
    beside a new one are cancelled here, all others by `cancel_old`.
    """
    heirs = [tick for tick in ticks if _inherits(tick, live)]
    others = [tick for tick in ticks if not _inherits(tick, live)]
    intakes = [Intake(tick.schedule.project_id, [new_job(tick, tick.at)]) for tick in others]
    answers = enqueue_unblocked(connection, intakes, process_id=process_id)
    made: list[Tick] = []
    moved: list[Moved] = []
    skipped: list[Tick] = []
    for tick in heirs:
        found = _take_place(connection, tick, live[tick.schedule.id], process_id)
        (skipped if found is None else made).append(tick)
        moved += found or []
    for tick, answer in zip(others, answers, strict=True):
        if not _has_made(answer):
            skipped.append(tick)
            continue
        made.append(tick)
        moved += _moves(tick, answer)
    if skipped:
        taken = [{"schedule": each.schedule.id, "tick": each.at} for each in skipped]
        connection.execute(_TAKEN, taken)
    return made, moved


def _has_made(answer: Accepted | JobsError) -> TypeGuard[Accepted]:
    """Whether there is a job; another one has the unique key if not. Raises what else is wrong."""
    if isinstance(answer, UniqueConflict):
        return False
    if isinstance(answer, JobsError):
        raise answer
    return bool(answer.made)


def _moves(tick: Tick, answer: Accepted) -> list[Moved]:
    return [*answer.moved, *(created(tick.schedule.project_id, job) for job in answer.made)]


def _inherits(tick: Tick, live: Mapping[UUID, Sequence[UUID]]) -> bool:
    """Whether it has to take its key from the jobs that it takes the place of."""
    is_replacing = tick.schedule.overlap is Overlap.CANCEL_OLD
    return is_replacing and "unique" in tick.schedule.ties and bool(live.get(tick.schedule.id))


def _take_place(
    connection: Connection, tick: Tick, old: Sequence[UUID], process_id: UUID
) -> list[Moved] | None:
    """The older jobs are cancelled, and the tick's has their key; None: a stranger has it.

    Then nothing is done. Where one of the older ones runs, and the
    key is for one that has not ended, the new job waits for that end, however it comes.
    """
    project_id, job = tick.schedule.project_id, new_job(tick, tick.at)
    assert job.unique is not None
    with connection.begin_nested() as attempt:
        moved = _cancel_each(connection, project_id, old)
        if job.unique.scope == "active":
            running = connection.execute(_HAND_OVER, {"jobs": [*old]}).scalars()
            job = job._replace(behind=[*running])
        [answer] = enqueue_unblocked(connection, [Intake(project_id, [job])], process_id=process_id)
        if _has_made(answer):
            return [*moved, *_moves(tick, answer)]
        attempt.rollback()
    return None


def cancel_old(
    connection: Connection, making: Sequence[Tick], live: Mapping[UUID, Sequence[UUID]]
) -> list[Moved]:
    """The older jobs are cancelled, or asked to end, where that is the schedule's policy."""
    moved: list[Moved] = []
    for tick in making:
        if tick.schedule.overlap is Overlap.CANCEL_OLD and not _inherits(tick, live):
            old = live.get(tick.schedule.id, ())
            moved += _cancel_each(connection, tick.schedule.project_id, old)
    return moved


def _cancel_each(connection: Connection, project_id: str, jobs: Iterable[UUID]) -> list[Moved]:
    moved: list[Moved] = []
    for job_id in jobs:
        with suppress(InvalidTransition, JobNotFound):  # it may have ended just now, or be gone
            found = cancel(connection, project_id, job_id, CANCELLED)
            moved += [] if found is None else [found]
    return moved


def new_job(tick: Tick, run_at: datetime | None) -> NewJob:
    """The tick's job, as its schedule says."""
    assert tick.job_id is not None
    schedule = tick.schedule
    ties = read_ties(schedule.ties, schedule.sealed, schedule.id) if schedule.ties else {}
    shared = ties.get("concurrency")
    shown = tick.at.astimezone(ZoneInfo(schedule.form.timezone)).isoformat()
    return NewJob(
        id=tick.job_id,
        kind=schedule.kind,
        queue=schedule.queue,
        priority=schedule.priority,
        args=schedule.args,
        redacted_args=schedule.redacted_args,
        labels=documents.encode({**schedule.labels, TICK_LABEL: shown}),
        max_attempts=schedule.max_attempts,
        timeout_seconds=schedule.timeout_seconds,
        run_at=run_at,
        delay_seconds=None,
        expires_seconds=schedule.expires_seconds,
        parent_id=None,
        rerun_of=None,
        schedule_id=schedule.id,
        concurrency_key=None if shared is None else shared.key,
        concurrency_limit=None if shared is None else shared.limit,
        unique=ties.get("unique"),
        webhook=ties.get("webhook"),
    )


_HAND_OVER = sa.text("""
UPDATE job SET unique_key = NULL, unique_scope = NULL
WHERE id = ANY (CAST(:jobs AS uuid[])) AND finished_at IS NULL RETURNING id
""")
_TAKEN = sa.text(f"""
UPDATE schedule_tick SET outcome = '{Outcome.SKIPPED}', reason = '{Reason.UNIQUE}', job_id = NULL
WHERE schedule_id = :schedule AND tick_at = :tick
""")  # noqa: S608 - constants
