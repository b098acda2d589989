"""Pages of a list that cost about the same whatever is asked for and however many jobs there are.

A page is found by keyset: ids sort by birth, so "newest first" is by id alone, and it costs the
same wherever it lies. Two filters that each fit many jobs, and together none, are what no index
answers: then a page reads MOST_READ jobs at most, by the index that reaches furthest with them. It
may be short, or empty, and goes on where it has stopped.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.events import planned_anew
from jobs.ids import FIRST, LAST, first_id
from jobs.models import ASTRAY, STATE, STRAYS, Job
from jobs.queries import CLOCK_SLACK, JobFilter, conditions_of
from jobs.states import JobState
from jobs.views import JobView, job_columns

QUICK = 1000  # jobs that are read at first: mostly these fill the page
MOST_READ = 5000  # jobs; some 10 ms where they lie in memory

DEFAULT_QUEUE = "default"  # of which there is no index
_UNSUCCESSFUL = {JobState.FAILED, JobState.CANCELLED}
_id = col(Job.id)
_ASTRAY = sa.literal_column(ASTRAY, type_=sa.Boolean)

Conditions = list[sa.ColumnElement[bool]]


class Page(NamedTuple):
    """Some jobs, newest first."""

    jobs: list[JobView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


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

    def read(self, shown: Any, span: Span) -> sa.Select[Any]:
        """Them, newest first."""
        row = sa.tuple_(*self._columns)
        values = [*self.equal.values()]
        return (
            sa.select(shown)
            .where(
                row >= sa.tuple_(*values, sa.literal(span.first)),
                row <= sa.tuple_(*values, sa.literal(span.last)),
                *self.conditions,
            )
            .order_by(*self.order)
        )

    @property
    def order(self) -> list[Any]:
        """The index's, from its end."""
        return [column.desc() for column in self._columns]

    @property
    def _columns(self) -> list[Any]:
        return [*map(col, self.equal), _id]


class Wanted(NamedTuple):
    """What a page shows."""

    columns: Sequence[Any]
    conditions: Conditions
    limit: int
    has_label: bool  #: among the conditions, which another index may find sooner

    def anywhere(self, span: Span) -> sa.Select[Any]:
        """One more than are shown, of all that fit, in a way of the planner's choice."""
        return self._fitting().where(_id.between(*span)).order_by(_id.desc())

    def among(self, path: Path, span: Span, most: int | None = None) -> sa.Select[Any]:
        """… of the path's newest, so many at `most`; no other job is read.

        What is read is called `job` as well, so that columns and conditions mean it as they are;
        even without a limit it has an offset, without which it would not be planned by itself.
        """
        read = path.read(Job, span).limit(most).offset(0).cte("job")
        return self._fitting().order_by(*path.order).add_cte(read)

    def _fitting(self) -> sa.Select[Any]:
        return sa.select(*self.columns).where(*self.conditions).limit(self.limit + 1)


def page_jobs(
    connection: Connection,
    project_id: str,
    asked: JobFilter,
    *,
    limit: int,
    before: UUID | None = None,
    full: bool = False,
) -> Page:
    """The next `limit` jobs older than `before`, or fewer; `full` with args and result.

    Only where `last_id` is None there are no more. Up to four statements, planned for their
    values: one label is on every job, another on a few of a million.
    """
    older = [] if before is None else [_id < before]
    conditions = [col(Job.project_id) == project_id, *conditions_of(asked), *older]
    wanted = Wanted(job_columns(full=full), conditions, limit, bool(asked.labels))
    span = _span(asked, STRAYS, before)
    with planned_anew(connection):
        jobs, floor = _read(connection, _paths(project_id, asked), span, wanted)
        if asked.created_after is not None or asked.created_before is not None:
            wide = _span(asked, CLOCK_SLACK, before)
            astray = wanted._replace(conditions=[*conditions, sa.not_(_id.between(*span))])
            path = Path({Job.project_id: sa.literal(project_id)}, [_ASTRAY])
            jobs += _run(connection, astray.among(path, Span(floor or wide.first, wide.last)))
            jobs.sort(key=lambda job: job.id.int, reverse=True)
    return Page(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else floor)


def _read(
    connection: Connection, paths: Sequence[Path], span: Span, wanted: Wanted
) -> tuple[list[JobView], UUID | None]:
    """Those whose ids lie in the span, one more than are shown; if not all were read, how far."""
    if not paths:
        return _run(connection, wanted.anywhere(span)), None
    if not wanted.has_label:
        jobs = _run(connection, wanted.among(paths[0], span, QUICK))
        if len(jobs) > wanted.limit:
            return jobs, None
    path, floor = _furthest(connection, paths, span)
    if wanted.has_label and floor is not None:
        return _run(connection, wanted.anywhere(span)), None
    reached = Span(floor or span.first, span.last)
    return _run(connection, wanted.among(path, reached, MOST_READ)), floor


def _furthest(
    connection: Connection, paths: Sequence[Path], span: Span
) -> tuple[Path, UUID | None]:
    """The path whose next MOST_READ jobs reach furthest, and the last of these; None: all are."""
    lasts = [path.read(_id, span).offset(MOST_READ - 1).limit(1) for path in paths]
    row = connection.execute(sa.select(*(last.scalar_subquery() for last in lasts))).one()
    return min(zip(paths, row, strict=True), key=lambda reach: (reach[1] or FIRST).int)


def _run(connection: Connection, statement: sa.Select[Any]) -> list[JobView]:
    return [JobView._make(row) for row in connection.execute(statement)]


def _span(asked: JobFilter, slack: timedelta, before: UUID | None) -> Span:
    """Where those lie whose submitters' clocks were not wrong by more."""
    first, last = FIRST, LAST if before is None else before
    if asked.created_after is not None:
        first = first_id(asked.created_after - slack)
    if asked.created_before is not None:
        last = min(last, first_id(asked.created_before + slack))
    return Span(first, last)


def _paths(project_id: str, asked: JobFilter) -> list[Path]:
    """The indexes that say most of what is asked for; empty where one says it all.

    So it is where a filter finds the few that it fits, and where states are several.
    """
    names = {name for name in ("kind", "queue", "states", "labels") if getattr(asked, name)}
    is_of_few = asked.ids or asked.batch_id or asked.parent_id or asked.schedule_id
    if is_of_few or len(asked.states) > 1 or names <= {"labels"}:
        return []
    said = [each for each in _indexes(asked) if each <= names]
    most = [each for each in said if not any(each < other for other in said)]
    return [] if names in most else [_path(project_id, asked, each) for each in most]


def _indexes(asked: JobFilter) -> Iterator[set[str]]:
    """Of what filters there are indexes that have the jobs in the order of their ids."""
    if not _UNSUCCESSFUL.isdisjoint(asked.states):
        yield {"states", "kind"}
    if JobState.SUCCEEDED not in asked.states:
        yield {"states"}
    if asked.queue != DEFAULT_QUEUE:
        yield {"queue"}
    yield {"kind"}
    yield set()


def _path(project_id: str, asked: JobFilter, names: set[str]) -> Path:
    equal: dict[Any, Any] = {Job.project_id: sa.literal(project_id)}
    conditions: Conditions = []
    if "kind" in names:
        equal[Job.kind] = sa.literal(asked.kind)
    if "queue" in names:
        equal[Job.queue] = sa.literal(asked.queue)
        conditions.append(col(Job.queue) != sa.literal_column(f"'{DEFAULT_QUEUE}'"))
    if "states" in names:
        equal[Job.state] = sa.literal(asked.states[0], STATE)
        conditions += conditions_of(JobFilter(states=asked.states))
    return Path(equal, conditions)
