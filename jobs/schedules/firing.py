"""Firing: what is due becomes jobs, each tick once, whoever and however many look.

Three parts, so that no transaction waits for arithmetic: `list_due` reads, `decide` computes, and
`fire` writes, where a schedule is still as it was read. What `fire` writes (the ticks' rows, their
jobs with their events, the schedules' next times) is one transaction of the caller's: a crash
before its commit leaves everything to whoever looks next, and after it nothing is due any more.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.enqueue import Accepted, Intake, enqueue
from jobs.errors import JobsError
from jobs.ids import uuid7
from jobs.lifecycle import Moved
from jobs.schedules.forms import Form, timing_of
from jobs.schedules.making import DueSchedule, Tick, cancel_old, make_jobs, new_job
from jobs.schedules.models import Misfire, Outcome, Overlap, Reason
from jobs.timing import find_due

GRACE = timedelta(seconds=60)  # a deploy takes less; what is later was missed


class Decision(NamedTuple):
    """What is to become of a schedule's due ticks, as far as its misfire policy goes."""

    schedule: DueSchedule
    missed: datetime | None  #: the newest of the ticks that are passed over
    missed_count: int
    ticks: list[datetime]  #: those that fire, oldest first, if the overlap policy lets them
    next_at: datetime | None


class Fired(NamedTuple):
    """What was done, to be told after the commit."""

    schedules: int  #: that went on to their next time
    moved: list[Moved]  #: the jobs that were made, and those that were cancelled
    queues: set[str]


def find_next(connection: Connection) -> float | None:
    """Seconds until the next tick is due, negative if it is; None: there is none. One index."""
    seconds: float | None = connection.execute(_NEXT).scalar_one()
    return seconds


def list_due(connection: Connection, limit: int) -> list[DueSchedule]:
    """At most `limit` schedules with ticks that are due, the longest overdue first. No locks."""
    return [_read(row) for row in connection.execute(_DUE, {"limit": limit}).mappings()]


def read_one(connection: Connection, project_id: str, schedule_id: UUID) -> DueSchedule | None:
    """The schedule, due or not, locked until the end of the transaction."""
    found = connection.execute(_ONE, {"schedule": schedule_id, "project": project_id})
    row = found.mappings().one_or_none()
    return None if row is None else _read(row)


def decide(schedule: DueSchedule) -> Decision:
    """What the misfire policy makes of the ticks that are due at `now`. Pure.

    The newest due tick is on time within GRACE, all others were missed: `skip` lets go of those,
    `last` fires the newest, however late, `all` the newest `misfire_max`.
    """
    keep = schedule.misfire_max if schedule.misfire is Misfire.ALL else 1
    due = find_due(timing_of(schedule.form), schedule.next_at, schedule.now, keep + 1)
    ticks, dropped = due.ticks[-keep:], due.ticks[:-keep]
    if schedule.misfire is Misfire.SKIP and schedule.now - ticks[0] > GRACE:
        ticks, dropped = [], ticks
    count = due.older + len(due.ticks) - len(ticks)
    return Decision(schedule, dropped[-1] if dropped else None, count, ticks, due.next_at)


def fire(connection: Connection, decisions: Sequence[Decision], process_id: UUID) -> Fired:
    """The decisions are carried out where the schedules are still as they were read.

    Locks these schedules, passing over those that somebody else holds, and the jobs that
    `cancel_old` ends; counts the new jobs in the rows of `process_id` in intake_total.
    """
    won = _lock(connection, decisions)
    live = _list_live(connection, won)
    ticks = [tick for each in won for tick in _ticks(each, bool(live.get(each.schedule.id)))]
    new = _record(connection, ticks)
    making = [tick for tick in ticks if tick.job_id and (tick.schedule.id, tick.at) in new]
    making, moved = make_jobs(connection, making, live, process_id)
    queues = {each.queue for each in moved}
    moved += cancel_old(connection, making, live)
    _go_on(connection, won, making)
    return Fired(len(won), moved, queues)


def fire_now(connection: Connection, schedule: DueSchedule, process_id: UUID) -> Accepted:
    """The schedule makes a job beside its plan, whatever its policies say; in its history, too.

    UniqueConflict; where the key's job is to be returned instead, nothing is made.
    """
    tick = Tick(schedule, schedule.now, uuid7(), Reason.RUN_NOW)
    intake = Intake(schedule.project_id, [new_job(tick, None)])
    [answer] = enqueue(connection, [intake], process_id=process_id)
    if isinstance(answer, JobsError):
        raise answer
    if answer.made:
        _record(connection, [tick])
        connection.execute(_SHOW, {"schedule": schedule.id, "tick": tick.at, "job": tick.job_id})
    return answer


def _ticks(decision: Decision, has_live: bool) -> list[Tick]:
    """The rows of the history, with the ids of the jobs to be made."""
    schedule = decision.schedule
    made: list[Tick] = []
    if decision.missed is not None:
        count = decision.missed_count
        made.append(Tick(schedule, decision.missed, None, Reason.MISFIRE, count))
    firing = {
        Overlap.ALLOW: decision.ticks,
        Overlap.SKIP: [] if has_live else decision.ticks[:1],
        Overlap.CANCEL_OLD: decision.ticks[-1:],
    }[schedule.overlap]
    for at in decision.ticks:
        is_made = at in firing
        job_id, reason = (uuid7(), None) if is_made else (None, Reason.OVERLAP)
        made.append(Tick(schedule, at, job_id, reason))
    return made


def _lock(connection: Connection, decisions: Sequence[Decision]) -> list[Decision]:
    seen = [each.schedule for each in decisions]
    binds = {
        "ids": [each.id for each in seen],
        "versions": [each.version for each in seen],
        "times": [each.next_at for each in seen],
    }
    won = {row[0] for row in connection.execute(_LOCK, binds)}
    return [each for each in decisions if each.schedule.id in won]


def _list_live(connection: Connection, won: Iterable[Decision]) -> dict[UUID, list[UUID]]:
    """The unfinished jobs of those schedules that ask for them."""
    asking = [each.schedule.id for each in won if each.schedule.overlap is not Overlap.ALLOW]
    if not asking:
        return {}
    return {row[0]: row[1] for row in connection.execute(_LIVE, {"ids": asking})}


def _record(connection: Connection, ticks: Sequence[Tick]) -> set[tuple[UUID, datetime]]:
    """The ticks that nobody has decided before."""
    if not ticks:
        return set()
    binds = {
        "schedules": [tick.schedule.id for tick in ticks],
        "times": [tick.at for tick in ticks],
        "outcomes": [Outcome.FIRED if tick.job_id else Outcome.SKIPPED for tick in ticks],
        "reasons": [tick.reason for tick in ticks],
        "jobs": [tick.job_id for tick in ticks],
        "counts": [tick.ticks for tick in ticks],
    }
    return {(row[0], row[1]) for row in connection.execute(_RECORD, binds)}


def _go_on(connection: Connection, won: Sequence[Decision], making: Sequence[Tick]) -> None:
    """The schedules stand before their next ticks, and show their newest jobs."""
    if not won:
        return
    newest = {tick.schedule.id: tick for tick in making}
    made = [newest.get(each.schedule.id) for each in won]
    binds = {
        "ids": [each.schedule.id for each in won],
        "times": [each.next_at for each in won],
        "ticks": [None if tick is None else tick.at for tick in made],
        "jobs": [None if tick is None else tick.job_id for tick in made],
    }
    connection.execute(_GO_ON, binds)


def _read(row: sa.RowMapping) -> DueSchedule:
    columns: dict[str, Any] = dict(row)
    form = Form(*(columns.pop(name) for name in Form._fields))
    columns["misfire"] = Misfire(columns["misfire"])
    columns["overlap"] = Overlap(columns["overlap"])
    return DueSchedule(form=form, **columns)


_FIRING = "schedule.next_at IS NOT NULL AND NOT schedule.paused AND schedule.gone_at IS NULL"
_SHOWN = """
SELECT schedule.id, schedule.project_id, schedule.version, schedule.next_at,
       clock_timestamp() AS now, schedule.cron, schedule.timezone, schedule.every_seconds,
       schedule.anchor_at, schedule.at, schedule.misfire, schedule.misfire_max, schedule.overlap,
       schedule.kind, coalesce(schedule.queue, kind.queue, 'default') AS queue, schedule.priority,
       CAST(schedule.args AS text) AS args, CAST(schedule.redacted_args AS text) AS redacted_args,
       schedule.labels, schedule.ties, schedule.sealed,
       coalesce(schedule.max_attempts, kind.max_attempts, 5) AS max_attempts,
       coalesce(schedule.timeout_seconds, kind.timeout_seconds) AS timeout_seconds,
       schedule.expires_seconds
FROM schedule LEFT JOIN kind ON kind.name = schedule.kind
"""
_NEXT = sa.text(f"""
SELECT CAST(extract(epoch FROM min(next_at) - clock_timestamp()) AS double precision)
FROM schedule WHERE {_FIRING}
""")  # noqa: S608 - names of columns only, here and below
#: Whether a tick is due within a second.
IS_ANY_SOON = f"""EXISTS (
    SELECT FROM schedule WHERE {_FIRING} AND next_at < statement_timestamp() + interval '1 second'
)"""
_DUE = sa.text(f"""
{_SHOWN} WHERE {_FIRING} AND schedule.next_at <= statement_timestamp()
ORDER BY schedule.next_at LIMIT :limit
""")
_ONE = sa.text(f"""
{_SHOWN} WHERE schedule.id = :schedule AND schedule.project_id = :project
FOR NO KEY UPDATE OF schedule
""")
_LOCK = sa.text(f"""
SELECT schedule.id FROM schedule
JOIN unnest(CAST(:ids AS uuid[]), CAST(:versions AS integer[]), CAST(:times AS timestamptz[]))
     AS seen (id, version, next_at) ON seen.id = schedule.id
WHERE schedule.version = seen.version AND schedule.next_at = seen.next_at AND {_FIRING}
ORDER BY schedule.id FOR NO KEY UPDATE OF schedule SKIP LOCKED
""")  # noqa: S608 - see above
_LIVE = sa.text("""
SELECT schedule_id, array_agg(id ORDER BY id) FROM job
WHERE schedule_id = ANY (CAST(:ids AS uuid[])) AND finished_at IS NULL GROUP BY schedule_id
""")
_RECORD = sa.text("""
INSERT INTO schedule_tick (schedule_id, tick_at, outcome, reason, job_id, ticks)
SELECT * FROM unnest(CAST(:schedules AS uuid[]), CAST(:times AS timestamptz[]),
                     CAST(:outcomes AS text[]), CAST(:reasons AS text[]), CAST(:jobs AS uuid[]),
                     CAST(:counts AS integer[]))
ON CONFLICT DO NOTHING
RETURNING schedule_id, tick_at
""")
_GO_ON = sa.text("""
UPDATE schedule SET next_at = done.next_at, last_tick_at = coalesce(done.tick_at, last_tick_at),
                    last_job_id = coalesce(done.job_id, last_job_id)
FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[]), CAST(:ticks AS timestamptz[]),
            CAST(:jobs AS uuid[])) AS done (id, next_at, tick_at, job_id)
WHERE schedule.id = done.id
""")
_SHOW = sa.text("""
UPDATE schedule SET last_tick_at = :tick, last_job_id = :job WHERE id = :schedule
""")
