"""From an event to its deliveries: a row and a job for each receiver, with the event or not at all.

Receivers are the enabled endpoints of the project that want its type, and, of a fact about a job's
end, the webhook that the job's own submission named. A delivery is made by a job of the kind
DELIVER, so that leases, retries and history are those of any job; what happens to these jobs makes
no deliveries again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import documents
from jobs.enqueue import Accepted, Intake, enqueue
from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.submissions import MAX_KEY_LENGTH, Concurrency, NewJob, Submission, check
from jobs.views import JobView
from lading.patterns import patterns_of

DELIVER = "webhook.deliver"  #: the kind; its args are {"delivery_id": …}

AT_A_TIME = 10  # requests to one receiver: of a hundred slots, those of ten slow ones


class BusEvent(NamedTuple):
    """An event as the bus has it."""

    document: Mapping[str, Any]  #: the CloudEvent in its JSON format, with its data
    job_id: UUID | None = None  #: of a fact about a job's end: that job

    @property
    def is_own(self) -> bool:
        """Whether Lading says it itself."""
        return str(self.document["source"]).startswith("/lading/")

    @property
    def is_of_a_delivery(self) -> bool:
        """Whether it tells of a job that delivers events: that is told to nobody, or never ends."""
        data = self.document.get("data")
        return self.is_own and isinstance(data, dict) and data.get("kind") == DELIVER


class _Receiver(NamedTuple):
    number: int  #: of the event, in its sequence
    endpoint_id: UUID | None
    job_id: UUID | None
    url: str | None
    sealed: bytes | None
    sealed_for: UUID | None


def fan_out(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[BusEvent],
    *,
    process_id: UUID,
) -> list[list[JobView]]:
    """Each event has a delivery to each of its receivers, and a job that makes it.

    The jobs, by event.

    An event that a receiver has had makes no second one. One statement where nobody wants any of
    them. `process_id` is that of `enqueue`; whoever commits wakes the jobs' queues. Locks the
    endpoints against deletion.
    """
    receivers = _receivers(connection, project_id, events) if events else []
    jobs: list[list[JobView]] = [[] for _ in events]
    made: list[tuple[int, JobView]] = []
    if receivers:
        made = _post(connection, registry, project_id, events, receivers, process_id=process_id)
    for number, job in made:
        jobs[number].append(job)
    return jobs


def post(
    connection: Connection,
    registry: Registry,
    project_id: str,
    event: BusEvent,
    endpoint_id: UUID,
    *,
    process_id: UUID,
) -> list[JobView]:
    """As fan_out, to that one endpoint, whatever types it asks for."""
    receiver = _Receiver(0, endpoint_id, None, None, None, None)
    made = _post(connection, registry, project_id, [event], [receiver], process_id=process_id)
    return [job for _, job in made]


def _post(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[BusEvent],
    receivers: Sequence[_Receiver],
    *,
    process_id: UUID,
) -> list[tuple[int, JobView]]:
    """Jobs, each with its event's place in `events`."""
    bodies = [body_of(event) for event in events]
    rows = [
        {
            "id": uuid7(),
            "job_id": uuid7(),
            "endpoint_id": receiver.endpoint_id,
            "about_job_id": receiver.job_id,
            "url": receiver.url,
            "sealed": receiver.sealed,
            "sealed_for": receiver.sealed_for,
            "event_source": events[receiver.number].document["source"],
            "event_id": events[receiver.number].document["id"],
            "event_type": events[receiver.number].document["type"],
            "body": bodies[receiver.number],
        }
        for receiver in receivers
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = connection.execute(_INSERT, {"project": project_id, **columns})
    jobs = deliver(connection, registry, project_id, [*made], process_id=process_id)
    numbers = {row["job_id"]: each.number for row, each in zip(rows, receivers, strict=True)}
    return [(numbers[job.id], job) for job in jobs]


def deliver(
    connection: Connection,
    registry: Registry,
    project_id: str,
    made: Sequence[sa.Row[Any]],
    *,
    process_id: UUID,
) -> list[JobView]:
    """Each of the deliveries (id, job_id, endpoint_id, url) has the job that makes it."""
    jobs = [_job(registry, row) for row in made]
    if not jobs:
        return []
    (accepted,) = enqueue(connection, [Intake(project_id, jobs)], process_id=process_id)
    assert isinstance(accepted, Accepted)  # it has no key that could be refused
    return accepted.jobs


def body_of(event: BusEvent) -> str:
    """The event as it is sent: a CloudEvent 1.0 with what Standard Webhooks wants beside it.

    That is `timestamp`, when it happened; `type` and `data` are of both. Facts about jobs are thin:
    what a job has brought is asked for where it lies.
    """
    document = event.document
    time = document.get("time") or datetime.now(UTC).isoformat().replace("+00:00", "Z")
    head = {"type": document["type"], "timestamp": time}
    if "data_base64" not in document:
        data = document.get("data")
        if event.is_own and isinstance(data, dict):
            data = {name: value for name, value in data.items() if name != "result"}
        head["data"] = data
    return documents.encode({**head, **{k: v for k, v in document.items() if k not in head}})


def _job(registry: Registry, row: sa.Row[Any]) -> NewJob:
    """One that waits for its turn at the receiver, so that a slow one holds up nobody else."""
    receiver = row.endpoint_id or urlsplit(row.url).hostname
    return check(
        registry,
        Submission(
            kind=DELIVER,
            args={"delivery_id": str(row.id)},
            concurrency=Concurrency(f"webhook:{receiver}"[:MAX_KEY_LENGTH], AT_A_TIME),
        ),
        job_id=row.job_id,
    )


def _receivers(
    connection: Connection, project_id: str, events: Sequence[BusEvent]
) -> list[_Receiver]:
    """Who is to be told, by the place of the event."""
    told = [(n, event) for n, event in enumerate(events) if not event.is_of_a_delivery]
    patterns = [(n, pattern) for n, event in told for pattern in _patterns(event)]
    binds = {
        "project": project_id,
        "numbers": [number for number, _ in patterns],
        "patterns": [pattern for _, pattern in patterns],
        "ended": [number for number, event in told if event.job_id is not None],
        "jobs": [event.job_id for _, event in told if event.job_id is not None],
    }
    return [_Receiver._make(row) for row in connection.execute(_RECEIVERS, binds)]


def _patterns(event: BusEvent) -> list[str]:
    return patterns_of(str(event.document["type"]))


_RECEIVERS = sa.text("""
WITH event AS (
    SELECT number, array_agg(pattern) AS patterns
    FROM unnest(CAST(:numbers AS integer[]), CAST(:patterns AS text[])) AS each (number, pattern)
    GROUP BY number
)
SELECT number, endpoint_id, NULL::uuid, NULL::text, NULL::bytea, NULL::uuid FROM (
    SELECT event.number, endpoint.id AS endpoint_id
    FROM event JOIN webhook_endpoint AS endpoint
      ON endpoint.project_id = :project AND endpoint.enabled
     AND endpoint.event_types && event.patterns
    ORDER BY endpoint.id FOR KEY SHARE OF endpoint
) AS wanted
UNION ALL
SELECT number, NULL, webhook.job_id, webhook.url, webhook.sealed, webhook.sealed_for
FROM unnest(CAST(:ended AS integer[]), CAST(:jobs AS uuid[])) AS ended (number, job_id)
JOIN job_webhook AS webhook USING (job_id)
""")
_INSERT = sa.text("""
INSERT INTO webhook_delivery (id, project_id, endpoint_id, about_job_id, url, sealed, sealed_for,
                              event_source, event_id, event_type, body, state, next_at, job_id)
SELECT id, :project, endpoint_id, about_job_id, url, sealed, sealed_for, event_source, event_id,
       event_type, body, 'pending', clock_timestamp(), job_id
FROM unnest(CAST(:id AS uuid[]), CAST(:job_id AS uuid[]), CAST(:endpoint_id AS uuid[]),
            CAST(:about_job_id AS uuid[]), CAST(:url AS text[]), CAST(:sealed AS bytea[]),
            CAST(:sealed_for AS uuid[]), CAST(:event_source AS text[]),
            CAST(:event_id AS text[]), CAST(:event_type AS text[]), CAST(:body AS text[]))
     AS row (id, job_id, endpoint_id, about_job_id, url, sealed, sealed_for, event_source, event_id,
             event_type, body)
ON CONFLICT DO NOTHING
RETURNING id, job_id, endpoint_id, url
""")
