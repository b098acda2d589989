"""The rows of plain jobs: many in one statement, which answers only what is not known before.

Each column of a group is one text, PostgreSQL's own for an array; where all of a column is NULL it
is NULL itself, and costs nothing (`unnest` of several arrays fills the shorter ones with NULLs).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.direct import Direct
from jobs.enqueue.intake import Accepted, Intake
from jobs.enqueue.rows import COUNTED, LIMITED, PLAIN, insertion
from jobs.states import JobState
from jobs.submissions import NewJob
from jobs.trail.tallies import ADD_UP, tally_binds
from jobs.views import JobView

_TYPES = {"project_id": "text", **PLAIN}
_PARAMETERS = (*_TYPES, "process_id", "tallies")
_RETURNED = "id, project_id, state, created_at, run_at, concurrency_key, concurrency_limit"
_PLAIN = len(PLAIN)


def insert_plain(
    connection: Connection, intakes: Sequence[Intake], process_id: UUID
) -> list[Accepted]:
    """The plain intakes' jobs exist. IntegrityError when one of the ids is there."""
    if not intakes:
        return []
    statement, binds = plain_insertion(intakes, process_id)
    return read_plain(intakes, statement.all(connection, binds))


def plain_insertion(
    intakes: Sequence[Intake], process_id: UUID
) -> tuple[Direct, Mapping[str, str | None]]:
    """The statement that inserts the jobs of plain intakes, one at least, and its parameters.

    It is one of STATEMENTS. The audit trail tells of the jobs by the tallies, if there are any.
    """
    rows = [(intake.project_id, *job[:_PLAIN]) for intake in intakes for job in intake.jobs]
    binds: dict[str, str | None] = {
        name: write(column)
        for (name, write), column in zip(_WRITERS.items(), zip(*rows, strict=True), strict=True)
    }
    binds["process_id"] = str(process_id)
    tallies = [intake.tally for intake in intakes if intake.tally is not None]
    if tallies:
        binds |= tally_binds(tallies)
    is_limited = binds["concurrency_limit"] is not None
    return _statement(is_told=bool(tallies), is_limited=is_limited), binds


def read_plain(intakes: Sequence[Intake], answer: Sequence[tuple[Any, ...]]) -> list[Accepted]:
    """The intakes' jobs, as the statement has answered."""
    (now, *_), *timed = answer
    due = {job_id: (run_at, JobState(state)) for _, job_id, run_at, state in timed}
    return [
        Accepted([_view(job, now, *due.get(job.id, _AT_ONCE)) for job in intake.jobs])
        for intake in intakes
    ]


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


#: All that `plain_insertion` chooses from.
STATEMENTS = [
    _statement(is_told=is_told, is_limited=is_limited)
    for is_told in (False, True)
    for is_limited in (False, True)
]
