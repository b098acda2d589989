"""The rows of plain jobs: many in one statement, which answers only what is not known before.

Each column of a group is one text, PostgreSQL's own for an array; where all of a column is NULL it
is NULL itself, and costs nothing (`unnest` of several arrays fills the shorter ones with NULLs).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.direct import Direct
from jobs.enqueue.rows import COUNTED, LIMITED, PLAIN, insertion
from jobs.states import JobState
from jobs.submissions import NewJob
from jobs.trail.tallies import ADD_UP, Tally, tally_binds
from jobs.views import JobView

_TYPES = {"project_id": "text", **PLAIN}
_PARAMETERS = (*_TYPES, "process_id", "tallies")
_RETURNED = "id, project_id, state, created_at, run_at, concurrency_key, concurrency_limit"
_LIMIT = [*_TYPES].index("concurrency_limit")


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
    plain = [(project_id, *job[: len(PLAIN)]) for project_id, job in rows]
    columns = zip(*plain, strict=True)
    binds: dict[str, str | None] = {
        name: write(values) for (name, write), values in zip(_WRITERS.items(), columns, strict=True)
    }
    binds["process_id"] = str(process_id)
    if tallies:
        binds |= tally_binds(tallies)
    statement = _statement(is_told=bool(tallies), is_limited=binds["concurrency_limit"] is not None)
    (now, *_), *timed = statement.all(connection, binds)
    due = {job_id: (run_at, JobState(state)) for _, job_id, run_at, state in timed}
    return {job.id: _view(job, now, *due.get(job.id, _AT_ONCE)) for _, job in rows}


_AT_ONCE = (None, JobState.QUEUED)


def _view(job: NewJob, now: datetime, run_at: datetime | None, state: JobState) -> JobView:
    """The row as it was inserted."""
    return JobView(
        id=job.id,
        kind=job.kind,
        state=state,
        queue=job.queue,
        priority=job.priority,
        args=json.loads(job.args if job.redacted_args is None else job.redacted_args),
        result=None,
        error=None,
        progress=None,
        attempt=0,
        failures=0,
        crashes=0,
        max_attempts=job.max_attempts,
        labels=json.loads(job.labels),
        seq=1,
        cancel_requested=False,
        created_at=now,
        run_at=run_at,
        queued_at=now if state is JobState.QUEUED else None,
        started_at=None,
        finished_at=None,
        parent_id=job.parent_id,
        rerun_of=job.rerun_of,
        schedule_id=job.schedule_id,
        concurrency_key=job.concurrency_key,
        concurrency_limit=job.concurrency_limit,
        unique_key=None,
        unique_scope=None,
        after=None,
        batch_id=None,
    )


def _array(values: Sequence[Any]) -> str | None:
    """Of numbers, ids or times, which need no quotes (PostgreSQL's manual, 8.15.2)."""
    if values.count(None) == len(values):
        return None
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def _array_of_texts(values: Sequence[str | None]) -> str | None:
    if values.count(None) == len(values):
        return None
    return "{" + ",".join(_quoted(values)) + "}"


def _quoted(values: Iterable[str | None]) -> list[str]:
    return [
        "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for text in values
    ]


def _array_of_times(values: Sequence[datetime | None]) -> str | None:
    return _array([None if each is None else each.isoformat() for each in values])


_BY_TYPE: dict[str, Callable[[Sequence[Any]], str | None]] = {
    "text": _array_of_texts,
    "timestamptz": _array_of_times,
}
_WRITERS: dict[str, Callable[[Sequence[Any]], str | None]] = {
    name: _BY_TYPE.get(type_, _array) for name, type_ in _TYPES.items()
}


#: A row for the time, and one for each job that has one of its own.
_ANSWER = """
SELECT now, CAST(NULL AS uuid) AS id, CAST(NULL AS timestamptz) AS run_at, '' AS state FROM clock
UNION ALL SELECT created_at, id, run_at, CAST(state AS text) FROM job WHERE run_at IS NOT NULL
"""


@cache
def _statement(*, is_told: bool, is_limited: bool) -> Direct:
    parts = [insertion(_TYPES, returned=_RETURNED)]
    parts += [LIMITED] if is_limited else []
    parts += [COUNTED]
    parts += [f"told AS ({ADD_UP})"] if is_told else []
    names = [name for name in _PARAMETERS if is_told or name != "tallies"]
    text = sa.text(",\n".join(parts) + _ANSWER)
    columns: dict[str, sa.types.TypeEngine[Any]] = {
        "now": sa.DateTime(timezone=True),
        "id": sa.Uuid(),
        "run_at": sa.DateTime(timezone=True),
        "state": sa.Text(),
    }
    return Direct(
        f"lading_enqueue_{is_told:d}{is_limited:d}",
        text.bindparams(*(sa.bindparam(name, type_=sa.Text) for name in names)).columns(
            *(sa.column(name, type_) for name, type_ in columns.items())
        ),
    )
