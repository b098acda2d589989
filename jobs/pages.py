"""Pages of a list that cost about the same whatever is asked for and however many jobs there are.

Two filters that each fit many jobs, and together none, are what no index answers: a page reads
MOST_READ jobs at most by the index that reaches furthest with them. It may then be short, or empty,
and goes on where it has stopped.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.events import planned_anew
from jobs.ids import FIRST, LAST, first_id
from jobs.models import ASTRAY, STATE, STRAYS, Job
from jobs.queries import CLOCK_SLACK, JobFilter, Page, conditions_of
from jobs.states import JobState
from jobs.views import JobView, job_columns

QUICK = 1000  # jobs that are read at first: mostly these fill the page
MOST_READ = 5000  # jobs; some 10 ms where they lie in memory

DEFAULT_QUEUE = "default"  # of which there is no index
_UNSUCCESSFUL = {JobState.FAILED, JobState.CANCELLED}
_id = col(Job.id)
_ASTRAY = sa.literal_column(ASTRAY, type_=sa.Boolean)

Conditions = list[sa.ColumnElement[bool]]


class Span(NamedTuple):
    """Between which ids jobs are looked for, both included."""

    first: UUID = FIRST
    last: UUID = LAST


class Path(NamedTuple):
    """Jobs that an index has in the order of their ids.

    They are found by comparing rows of columns, and wholly ordered, as in that index alone:
    PostgreSQL does not know that jobs of one queue are seldom of another's kind.
    """

    equal: dict[Any, Any]  #: the columns before the id, and their values
    conditions: Conditions  #: of a partial index
    has_label: bool = False  #: is asked for, too, which other indexes may find sooner

    def read(self, shown: Any, span: Span) -> sa.Select[Any]:
        """Them, newest first."""
        row = sa.tuple_(*self.columns)
        values = [*self.equal.values()]
        return (
            sa.select(shown)
            .where(
                row >= sa.tuple_(*values, sa.literal(span.first)),
                row <= sa.tuple_(*values, sa.literal(span.last)),
                *self.conditions,
            )
            .order_by(*(column.desc() for column in self.columns))
        )

    @property
    def columns(self) -> list[Any]:
        """Of the index."""
        return [*map(col, self.equal), _id]


class Wanted(NamedTuple):
    """What a page shows."""

    conditions: Conditions
    columns: Sequence[Any]
    limit: int


def page_in_reach(
    connection: Connection,
    project_id: str,
    wanted: JobFilter,
    *,
    limit: int,
    before: UUID | None = None,
    full: bool = False,
) -> Page:
    """The next `limit` jobs older than `before`, or fewer; `full` with args and result.

    Only where `last_id` is None there are no more. Up to three statements, planned for their
    values: one label is on every job, another on a few of a million.
    """
    older = [] if before is None else [_id < before]
    conditions = [col(Job.project_id) == project_id, *conditions_of(wanted), *older]
    shown = Wanted(conditions, job_columns(full=full), limit)
    span = _span(wanted, STRAYS, before)
    with planned_anew(connection):
        jobs, floor = _read(connection, _paths(project_id, wanted), span, shown)
        if wanted.created_after is not None or wanted.created_before is not None:
            wide = _span(wanted, CLOCK_SLACK, before)
            strays = Path({Job.project_id: sa.literal(project_id)}, [_ASTRAY])
            read = strays.read(Job, Span(floor or wide.first, wide.last)).offset(0)
            others = shown._replace(conditions=[*conditions, sa.not_(_id.between(*span))])
            jobs += _run(connection, _among(strays, read, others), limit)
            jobs.sort(key=lambda job: job.id.int, reverse=True)
    return Page(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else floor)


def _read(
    connection: Connection, paths: Sequence[Path], span: Span, shown: Wanted
) -> tuple[list[JobView], UUID | None]:
    """Those whose ids lie in the span, one more than are shown; if not all were read, how far."""
    plain = sa.select(*shown.columns).where(*shown.conditions, _id.between(*span))
    plain = plain.order_by(_id.desc())
    if not paths:
        return _run(connection, plain, shown.limit), None
    may_stop = not any(path.has_label for path in paths)
    if may_stop:
        quick = _among(paths[0], paths[0].read(Job, span).limit(QUICK), shown)
        jobs = _run(connection, quick, shown.limit)
        if len(jobs) > shown.limit:
            return jobs, None
    path, floor = _furthest(connection, paths, span)
    if floor is not None and not may_stop:
        return _run(connection, plain, shown.limit), None
    read = path.read(Job, Span(floor or span.first, span.last)).limit(MOST_READ)
    return _run(connection, _among(path, read, shown), shown.limit), floor


def _span(wanted: JobFilter, slack: timedelta, before: UUID | None) -> Span:
    """Where those lie whose submitters' clocks were not wrong by more."""
    first, last = FIRST, LAST if before is None else before
    if wanted.created_after is not None:
        first = first_id(wanted.created_after - slack)
    if wanted.created_before is not None:
        last = min(last, first_id(wanted.created_before + slack))
    return Span(first, last)


def _paths(project_id: str, wanted: JobFilter) -> list[Path]:
    """The indexes of which none says all that is asked for; empty where one does.

    So it is where a filter finds the few that it fits, and where states are several.
    """
    asked = {name for name in ("kind", "queue", "states", "labels") if getattr(wanted, name)}
    is_of_few = wanted.ids or wanted.batch_id or wanted.parent_id or wanted.schedule_id
    if is_of_few or len(wanted.states) > 1 or asked <= {"labels"}:
        return []
    by_state = {"states"} & asked if JobState.SUCCEEDED not in wanted.states else set()
    by_queue = {"queue"} & asked if wanted.queue != DEFAULT_QUEUE else set()
    found = [by_state, by_queue, {"kind"} & asked]
    if not _UNSUCCESSFUL.isdisjoint(wanted.states):
        found = [by_state | {"kind"} & asked, by_queue]  # the first together
    found = [names for names in found if names]
    return [] if asked in found else [_path(project_id, wanted, each) for each in found or [set()]]


def _path(project_id: str, wanted: JobFilter, names: set[str]) -> Path:
    equal: dict[Any, Any] = {Job.project_id: sa.literal(project_id)}
    conditions: Conditions = []
    if "kind" in names:
        equal[Job.kind] = sa.literal(wanted.kind)
    if "queue" in names:
        equal[Job.queue] = sa.literal(wanted.queue)
        conditions.append(col(Job.queue) != sa.literal_column(f"'{DEFAULT_QUEUE}'"))
    if "states" in names:
        conditions = conditions_of(JobFilter(states=wanted.states))
        equal[Job.state] = sa.literal(wanted.states[0], STATE)
    return Path(equal, conditions, has_label=bool(wanted.labels))


def _furthest(
    connection: Connection, paths: Sequence[Path], span: Span
) -> tuple[Path, UUID | None]:
    """The path whose next MOST_READ jobs reach furthest, and the last of these; None: all are."""
    lasts = [path.read(_id, span).offset(MOST_READ - 1).limit(1) for path in paths]
    row = connection.execute(sa.select(*(last.scalar_subquery() for last in lasts))).one()
    reach = dict(enumerate(row))
    best = min(reach, key=lambda number: (reach[number] or FIRST).int)
    return paths[best], reach[best]


def _among(path: Path, read: sa.Select[Any], shown: Wanted) -> sa.Select[Any]:
    """Those that fit of what is `read` of the path, in its order; no other job is read.

    What is read is called `job` as well, so that columns and conditions mean it as they are.
    """
    order = (column.desc() for column in path.columns)
    statement = sa.select(*shown.columns).where(*shown.conditions).order_by(*order)
    return statement.add_cte(read.cte("job"))


def _run(connection: Connection, statement: sa.Select[Any], limit: int) -> list[JobView]:
    """One more than are shown."""
    return [JobView._make(row) for row in connection.execute(statement.limit(limit + 1))]
