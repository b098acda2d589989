"""The one way of an event onto the bus, whoever publishes it: REST, a socket, a handler, Lading.

Event, firings, jobs and their first events are one transaction, which the edge commits: an event
that was accepted has made its jobs, and one that was not has made none. Unique are (source, id) in
a project, and (event, trigger): what is delivered twice makes nothing twice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import documents
from jobs.bus.envelope import OWN_SOURCE, NewEvent
from jobs.bus.making import make_job
from jobs.bus.matching import matches, view
from jobs.bus.queries import Accepted, Firing, find_events
from jobs.bus.triggers import TriggerView, find_waiting
from jobs.enqueue import Intake, created, enqueue_unblocked
from jobs.errors import InvalidSubmission, JobsError
from jobs.hints import Hints
from jobs.registry import Registry
from jobs.states import JobState
from jobs.submissions import NewJob
from jobs.views import JobView
from jobs.webhooks.fanning import BusEvent, fan_out
from lading.patterns import ANY, patterns_of

MOST_DEPTH = 8  # jobs in a row that events have made of each other's ends; more are a loop
MOST_IN_BATCH = 100


@dataclass(frozen=True, slots=True)
class Published:
    """What has become of an event that was published."""

    event: Accepted
    is_new: bool  #: False: it had been accepted before, and nothing was done
    jobs: list[JobView] = field(default_factory=list)  #: made now
    deliveries: list[JobView] = field(default_factory=list)  #: likewise, for its webhooks


def publish(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[NewEvent],
    *,
    gives_up: bool = True,
) -> list[Published]:
    """Each event is accepted, with a job for every trigger that it meets, or it was so before.

    In the order of `events`. A trigger whose args do not fit the event has its error recorded, and
    the others go on. Locks: the events in the order of (source, id); a twin that is not committed
    yet makes this wait for up to `lock_timeout` (then OperationalError, and nothing is done). A
    unique key that another transaction is just taking for as long is that one's; unless this
    `gives_up`, it is an OperationalError as well.
    """
    firsts: dict[tuple[str, str], NewEvent] = {}
    for event in events:
        firsts.setdefault((event.source, event.event_id), event)
    received = insert_events(connection, project_id, list(firsts.values()))
    fresh = [event for event in firsts.values() if event.id in received]
    known = [event for event in firsts.values() if event.id not in received]
    found = find_events(connection, project_id, [(e.source, e.event_id) for e in known])
    published = meet(connection, registry, project_id, fresh, received, gives_up=gives_up)
    results = []
    for event in events:
        first = firsts[event.source, event.event_id]
        result = published.get(first.id) or Published(
            found[event.source, event.event_id], is_new=False
        )
        # A commit whose answer was lost is tried again with the same ids: then it is new.
        is_new = first is event and (result.is_new or result.event.id == event.id)
        made = {"jobs": result.jobs, "deliveries": result.deliveries} if is_new else {}
        results.append(Published(result.event, is_new, **made))
    return results


def meet(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[NewEvent],
    received: Mapping[UUID, datetime],
    *,
    gives_up: bool = True,
) -> dict[UUID, Published]:
    """The events, which have met nothing yet, have their jobs and deliveries. By event."""
    meetings = _meetings(connection, project_id, events)
    fired = fire(connection, registry, project_id, meetings, gives_up=gives_up)
    told = fan_out(
        connection,
        registry,
        project_id,
        [BusEvent(event.document, event.job_id) for event in events],
        process_id=_process_of(connection),
    )
    return {
        event.id: Published(
            _accepted(event, received[event.id], firings),
            is_new=True,
            jobs=jobs,
            deliveries=deliveries,
        )
        for event, deliveries in zip(events, told, strict=True)
        for firings, jobs in [fired.get(event.id, ([], []))]
    }


def fire(
    connection: Connection,
    registry: Registry,
    project_id: str,
    meetings: Iterable[tuple[NewEvent, TriggerView]],
    *,
    gives_up: bool = True,
) -> dict[UUID, tuple[list[Firing], list[JobView]]]:
    """Each meeting has its job, or its error; by event. Whoever calls knows that none is old."""
    rows: list[tuple[UUID, Firing]] = []
    new: list[tuple[UUID, UUID, NewJob]] = []
    for event, trigger in meetings:
        try:
            job = make_job(registry, trigger.spec, view(event.document))
        except InvalidSubmission as error:
            rows.append((event.id, Firing(trigger.id, error=_failure(error))))
        else:
            new.append((event.id, trigger.id, job))
    made: dict[UUID, list[JobView]] = {}
    intakes = [Intake(project_id, [job]) for _, _, job in new]
    process_id, answers = _process_of(connection), []
    if intakes:
        answers = enqueue_unblocked(connection, intakes, process_id=process_id, gives_up=gives_up)
    for (event_id, trigger_id, _), answer in zip(new, answers, strict=True):
        if isinstance(answer, JobsError):
            rows.append((event_id, Firing(trigger_id, error=_failure(answer))))
        else:
            made.setdefault(event_id, []).extend(answer.made)
            rows.append((event_id, Firing(trigger_id, job_id=answer.jobs[0].id)))
    _record(connection, rows)
    found: dict[UUID, tuple[list[Firing], list[JobView]]] = {}
    for event_id, firing in rows:
        found.setdefault(event_id, ([], made.get(event_id, [])))[0].append(firing)
    return found


def tell(hints: Hints, project_id: str, published: Iterable[Published]) -> None:
    """The new jobs start at once, and whoever listens hears of them; call it after the commit."""
    told = [*published]
    if any(each.is_new for each in told):
        hints.tell_published()
    jobs = [job for each in told for job in (*each.jobs, *each.deliveries)]
    hints.tell(created(project_id, job) for job in jobs)
    hints.wake(sorted({job.queue for job in jobs if job.state is JobState.QUEUED}))


def meets(event: NewEvent, trigger: TriggerView) -> bool:
    """Whether the trigger's filter lets the event, which is of its types, pass."""
    return matches(trigger.filter, view(event.document))


def _meetings(
    connection: Connection, project_id: str, events: Sequence[NewEvent]
) -> Iterator[tuple[NewEvent, TriggerView]]:
    """Which of the events meet which triggers."""
    firing = [event for event in events if event.depth <= MOST_DEPTH]
    patterns = {event.type: _patterns(event) for event in firing}
    if not patterns:
        return
    wanted = sorted({pattern for each in patterns.values() for pattern in each})
    waiting = find_waiting(connection, project_id, wanted)
    for event in firing:
        for pattern in patterns[event.type]:
            yield from (
                (event, trigger) for trigger in waiting.get(pattern, ()) if meets(event, trigger)
            )


def _patterns(event: NewEvent) -> list[str]:
    """Which triggers wait for it: what Lading says of its own jobs has to be asked for by name.

    A job for each end of a job, and so on, is seldom what `*` is meant to say.
    """
    is_own = event.source.startswith(OWN_SOURCE)
    return [each for each in patterns_of(event.type) if not (is_own and each == ANY)]


def _failure(error: JobsError) -> dict[str, Any]:
    flaws = error.flaws if isinstance(error, InvalidSubmission) else ()
    errors = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in flaws]
    return {"message": documents.storable_text(str(error)), "errors": documents.storable(errors)}


def _process_of(connection: Connection) -> UUID:
    """Each of PostgreSQL's processes counts in a row of its own, as in `lading_enqueue`."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return UUID(int=driver.info.backend_pid)


def too_deep(event: NewEvent) -> str | None:
    """Why an event that comes of too many others is kept, but fires nothing."""
    if event.depth <= MOST_DEPTH:
        return None
    return f"{event.depth} jobs in a row led to it, more than {MOST_DEPTH}: it fires nothing"


def _accepted(event: NewEvent, received_at: datetime, firings: list[Firing]) -> Accepted:
    return Accepted(event.id, event.document, event.depth, too_deep(event), received_at, firings)


_INSERT = sa.text("""
WITH durable AS MATERIALIZED (
    -- What is accepted survives a power cut, whatever the server's default for others is.
    SELECT CASE current_setting('synchronous_commit')
           WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
)
INSERT INTO cloud_event (id, project_id, source, event_id, type, envelope, depth, error, job_id,
                         is_pending)
SELECT row.id, :project, row.source, row.event_id, row.type, row.envelope::jsonb, row.depth,
       row.error, CAST(:job AS uuid), :is_pending
FROM unnest(CAST(:ids AS uuid[]), CAST(:sources AS text[]), CAST(:event_ids AS text[]),
            CAST(:types AS text[]), CAST(:envelopes AS text[]), CAST(:depths AS smallint[]),
            CAST(:errors AS text[]))
     AS row (id, source, event_id, type, envelope, depth, error), durable
ORDER BY row.source, row.event_id
ON CONFLICT (project_id, source, event_id) DO NOTHING
RETURNING id, received_at
""")
_RECORD = sa.text("""
INSERT INTO trigger_firing (event_id, trigger_id, job_id, error)
SELECT event_id, trigger_id, job_id, error::jsonb
FROM unnest(CAST(:events AS uuid[]), CAST(:triggers AS uuid[]), CAST(:jobs AS uuid[]),
            CAST(:errors AS text[])) AS row (event_id, trigger_id, job_id, error)
ON CONFLICT (event_id, trigger_id) DO UPDATE
SET job_id = excluded.job_id, error = excluded.error, at = clock_timestamp()
WHERE trigger_firing.job_id IS NULL
""")


def insert_events(
    connection: Connection,
    project_id: str,
    events: Sequence[NewEvent],
    *,
    job_id: UUID | None = None,
    is_pending: bool = False,
) -> dict[UUID, datetime]:
    """Those of the events that are new are kept, and when that was. Locks as `publish`."""
    rows = connection.execute(
        _INSERT,
        {
            "project": project_id,
            "job": job_id,
            "is_pending": is_pending,
            "ids": [event.id for event in events],
            "sources": [event.source for event in events],
            "event_ids": [event.event_id for event in events],
            "types": [event.type for event in events],
            "envelopes": [event.text for event in events],
            "depths": [event.depth for event in events],
            "errors": [too_deep(event) for event in events],
        },
    )
    return {row.id: row.received_at for row in rows}


def _record(connection: Connection, rows: Sequence[tuple[UUID, Firing]]) -> None:
    if not rows:
        return
    connection.execute(
        _RECORD,
        {
            "events": [event_id for event_id, _ in rows],
            "triggers": [firing.trigger_id for _, firing in rows],
            "jobs": [firing.job_id for _, firing in rows],
            "errors": [
                None if firing.error is None else documents.encode(firing.error)
                for _, firing in rows
            ],
        },
    )
