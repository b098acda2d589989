"""Why a job does not run, from the dispatcher's own reasons and in its order, and what can be done.

It reads the same definitions as the dispatcher picks by (jobs/admission.py), so that the two cannot
disagree; what it says was so when it was asked.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from jobs.admission import HOLDING, KEYED, LIVE, PLAIN
from jobs.errors import JobNotFound
from jobs.gates import Gate, GateView, Scope, stand
from jobs.states import FINAL, JobState

MOST_NAMED = 10  # jobs that hold a slot, or are waited for
MOST_TOLD = 3  # of them stand in the sentence
MOST_AHEAD = 10_000  # are counted; then it says so many at least


class Reason(NamedTuple):
    """One thing that keeps the job from running."""

    code: str
    detail: str
    advice: str  #: what an operator can do about it
    facts: dict[str, Any]


class Explanation(NamedTuple):
    """What is to be said of a job; `reasons` is empty where nothing keeps it."""

    job_id: UUID
    state: JobState
    reasons: list[Reason]
    ahead: int | None  #: jobs of its project and queue before it, ≤ MOST_AHEAD; None: not queued


def explain(connection: Connection, project_id: str, job_id: UUID, lease: timedelta) -> Explanation:
    """Why the job does not run, the first reason first. JobNotFound. Reads in a few statements."""
    job = connection.execute(_JOB, {"project": project_id, "job": job_id}).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    state = JobState(job.state)
    if state in FINAL:
        return Explanation(job_id, state, [_ended(job)], None)
    if state is JobState.RUNNING:
        return Explanation(job_id, state, [_running(job)], None)
    reasons = [*_gates(connection, job)]
    reasons += _parents(connection, job)
    reasons += _workers(connection, job, lease)
    reasons += _times(job)
    if state is not JobState.QUEUED:
        return Explanation(job_id, state, reasons, None)
    ahead = None
    if job.rung_at is None:
        ahead = connection.execute(_AHEAD, job._asdict()).scalar_one()
    if not reasons:
        reasons.append(_in_line(job, ahead))
    return Explanation(job_id, state, reasons, ahead)


def _gates(connection: Connection, job: Row[Any]) -> Iterator[Reason]:
    named = [Gate(Scope.QUEUE, job.queue), Gate(Scope.KIND, job.kind)]
    if job.concurrency_key is not None:
        named.append(Gate(Scope.KEY, job.concurrency_key))
    views = stand(connection, job.project_id, named)
    for view in views:
        if view.paused:
            yield _paused(view)
    if job.rung_at is not None:  # it holds a slot and a start already
        return
    for view in views:
        if view.concurrency is not None and view.running + view.rung >= view.concurrency:
            yield _full(view, _holders(connection, job.project_id, view))
    for view in views:
        if view.rate_burst is not None and (view.tokens == 0 or view.rung >= view.rate_burst):
            yield _too_fast(view)


def _paused(view: GateView) -> Reason:
    since = "" if view.paused_at is None else f" since {view.paused_at:%Y-%m-%d %H:%M:%S} UTC"
    by = "" if view.paused_by is None else f" by {view.paused_by}"
    why = "" if view.pause_reason is None else f": {view.pause_reason}"
    return Reason(
        "paused",
        f"{view} is paused{since}{by}{why}",
        f"POST /v1/limits/{view}/resume lets it go on.",
        {
            "limit": str(view),
            "by": view.paused_by,
            "at": view.paused_at,
            "reason": view.pause_reason,
        },
    )


def _full(view: GateView, holders: list[UUID]) -> Reason:
    return Reason(
        "limit-full",
        f"{view} lets {view.concurrency} run at a time: {view.running} run, and {view.rung} have"
        f" been offered to workers; it is held by {_told(holders, view.running + view.rung)}",
        f"Wait until one has ended, or set another limit: PUT /v1/limits/{view}.",
        {"limit": str(view), "concurrency": view.concurrency, "held_by": holders},
    )


def _too_fast(view: GateView) -> Reason:
    next_one = f"the next may at {view.next_start_at:%Y-%m-%d %H:%M:%S} UTC"
    if view.tokens:
        next_one = f"{view.rung} have been offered to workers, as many as may start at once"
    return Reason(
        "rate",
        f"{view} lets {view.rate_limit} start in {view.rate_seconds:g} s: {next_one}",
        f"Wait, or set another rate: PUT /v1/limits/{view}.",
        {"limit": str(view), "until": view.next_start_at},
    )


def _holders(connection: Connection, project_id: str, view: GateView) -> list[UUID]:
    binds = {"project": project_id, "name": view.name, "most": MOST_NAMED}
    return [*connection.execute(_HOLDERS[Scope(view.scope)], binds).scalars()]


def _parents(connection: Connection, job: Row[Any]) -> Iterator[Reason]:
    if job.state != JobState.WAITING or job.parents_left <= 0:
        return
    ties = connection.execute(_PARENTS, {"job": job.id, "most": MOST_NAMED}).all()
    for tie in ties:
        if tie.is_batch:
            yield Reason(
                "waits-for",
                f"it waits for the end of the batch {tie.parent_id}",
                f"See what is left of it: GET /v1/batches/{tie.parent_id}.",
                {"jobs": [], "batch": tie.parent_id},
            )
            return
    if not ties:  # the last parent has just ended
        return
    parents, count = [tie.parent_id for tie in ties], job.parents_left
    end = "end" if any(tie.any_end for tie in ties) else "succeed"
    yield Reason(
        "waits-for",
        f"it waits for {_count(count)} to {end}: {_told(parents, count)}",
        f"See what keeps {'it' if count == 1 else 'the first'}: GET /v1/jobs/{parents[0]}/explain.",
        {"jobs": parents},
    )


def _told(ids: list[UUID], count: int) -> str:
    """The first of so many jobs."""
    more = count - len(ids[:MOST_TOLD])
    return ", ".join(map(str, ids[:MOST_TOLD])) + (f" and {more} more" if more > 0 else "")


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _workers(connection: Connection, job: Row[Any], lease: timedelta) -> Iterator[Reason]:
    binds = {"queue": job.queue, "kind": job.kind, "lease": lease}
    serve, know = connection.execute(_SERVED, binds).one()
    if not serve:
        yield Reason(
            "no-worker",
            f"no worker that is alive serves the queue {job.queue}",
            "Start a worker of that queue.",
            {"queue": job.queue},
        )
    elif not know:
        yield Reason(
            "unknown-kind",
            f"no worker that serves the queue {job.queue} knows the kind {job.kind}",
            "Deploy the code of the kind to its workers, or name it in LADING_KINDS.",
            {"queue": job.queue, "kind": job.kind},
        )


def _times(job: Row[Any]) -> Iterator[Reason]:
    what = "an attempt failed, and the next one" if job.state == JobState.RETRYING else "it"
    advice = f"POST /v1/jobs/{job.id}/run-now starts it without waiting."
    if job.state == JobState.WAITING:
        advice = f"POST /v1/jobs/{job.id}/rerun starts another that waits for nothing."
    if job.is_early or job.state in {JobState.SCHEDULED, JobState.RETRYING}:
        yield Reason(
            "not-due",
            f"{what} may start at {job.run_at:%Y-%m-%d %H:%M:%S} UTC",
            advice,
            {"run_at": job.run_at},
        )


def _in_line(job: Row[Any], ahead: int | None) -> Reason:
    if job.rung_at is not None:
        return Reason(
            "offered",
            "it has been offered to the workers, and starts as soon as one is free",
            "If all are busy for long, start more workers.",
            {"at": job.rung_at},
        )
    count = f"{ahead} or more jobs" if ahead == MOST_AHEAD else _count(ahead or 0)
    come = "comes" if ahead == 1 else "come"
    return Reason(
        "in-line",
        f"{count} of its project and queue {come} first, by priority and age; keys take turns, and"
        " other projects share the workers",
        "Start more workers, or raise its priority: POST /v1/bulk with the op reprioritise.",
        {"ahead": ahead},
    )


def _running(job: Row[Any]) -> Reason:
    return Reason(
        "running",
        f"attempt {job.attempt} runs since {job.started_at:%Y-%m-%d %H:%M:%S} UTC",
        f"POST /v1/jobs/{job.id}/cancel asks it to end.",
        {"worker": job.worker, "cancel_requested": job.cancel_requested},
    )


def _ended(job: Row[Any]) -> Reason:
    again = "retry starts it again" if job.state != JobState.SUCCEEDED else "rerun repeats it"
    return Reason(
        str(job.state),
        f"it has ended: {job.state} at {job.finished_at:%Y-%m-%d %H:%M:%S} UTC",
        f"POST /v1/jobs/{job.id}/{again}.",
        {"at": job.finished_at},
    )


_JOB = sa.text("""
SELECT id, project_id, kind, CAST(state AS text) AS state, queue, priority, attempt, run_at,
       queued_at, started_at, finished_at, rung_at, worker, cancel_requested, concurrency_key,
       parents_left, state = 'waiting' AND run_at > statement_timestamp() AS is_early
FROM job WHERE id = :job AND project_id = :project
""")
_SERVED = sa.text(f"""
WITH {LIVE}
SELECT EXISTS (SELECT FROM live WHERE queue = :queue),
       EXISTS (SELECT FROM live WHERE queue = :queue AND :kind = ANY (kinds))
""")  # noqa: S608 - no value is part of it, here and below
_PARENTS = sa.text("""
SELECT parent_id, any_end, EXISTS (SELECT FROM batch WHERE batch.id = parent_id) AS is_batch
FROM job_dependency WHERE job_id = :job ORDER BY parent_id LIMIT :most
""")
_BUSY = "(state = 'running' OR state = 'queued' AND rung_at IS NOT NULL)"
_OF_SCOPE = {
    Scope.KEY: f"{HOLDING} AND concurrency_key = :name",
    Scope.KIND: f"{_BUSY} AND kind = :name",
    Scope.QUEUE: f"{_BUSY} AND queue = :name",
}
_HOLDERS = {
    scope: sa.text(f"""
    SELECT id FROM job WHERE project_id = :project AND {which}
    ORDER BY (rung_at IS NULL) DESC, started_at LIMIT :most
    """)  # noqa: S608
    for scope, which in _OF_SCOPE.items()
}


def _before(which: str) -> str:
    return f"""SELECT FROM job WHERE {which} AND queue = :queue AND project_id = :project_id AND (
        priority > :priority OR priority = :priority AND (queued_at, id) < (:queued_at, :id))"""


_AHEAD = sa.text(f"""
SELECT count(*) FROM (
    ({_before(PLAIN)} LIMIT {MOST_AHEAD}) UNION ALL ({_before(KEYED)} LIMIT {MOST_AHEAD})
    LIMIT {MOST_AHEAD}
) AS before
""")  # noqa: S608
