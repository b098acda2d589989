"""From an event to its deliveries: a row and a job for each receiver, with the event or not at all.

Receivers are the enabled endpoints of the project that want its type, and, of a fact about a job's
end, the webhook that the job's own submission named. A delivery is made by a job of the kind
DELIVER, so that leases, retries and history are those of any job; what happens to these jobs makes
no deliveries again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import documents
from jobs.enqueue import Accepted, Intake, enqueue
from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.submissions import NewJob, Submission, check
from jobs.views import JobView

DELIVER = "webhook.deliver"  #: the kind; its args are {"delivery_id": …}


@dataclass(frozen=True, slots=True, kw_only=True)
class BusEvent:
    """An event as the bus has it: the attributes of a CloudEvent, and what it is about."""

    id: str  #: unique among those of its `source`
    source: str
    type: str
    at: datetime  #: when it happened; aware
    data: Any  #: JSON
    subject: str | None = None
    job_id: UUID | None = None  #: of a fact about a job's end: that job

    @property
    def is_of_a_delivery(self) -> bool:
        """Whether it tells of a job that delivers events: that is told to nobody, or never ends."""
        return isinstance(self.data, dict) and self.data.get("kind") == DELIVER


class _Receiver(NamedTuple):
    number: int  #: of the event, in its sequence
    endpoint_id: UUID | None
    job_id: UUID | None
    url: str | None
    sealed: bytes | None


def fan_out(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[BusEvent],
    *,
    process_id: UUID,
) -> list[JobView]:
    """Each event has a delivery to each of its receivers, and a job that makes it; these jobs.

    An event that a receiver has had makes no second one. One statement where nobody wants any of
    them. `process_id` is that of `enqueue`; whoever commits wakes the jobs' queues. Locks the
    endpoints against deletion.
    """
    told = [event for event in events if not event.is_of_a_delivery]
    receivers = _receivers(connection, project_id, told) if told else []
    if not receivers:
        return []
    return _post(connection, registry, project_id, told, receivers, process_id=process_id)


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
    receiver = _Receiver(0, endpoint_id, None, None, None)
    return _post(connection, registry, project_id, [event], [receiver], process_id=process_id)


def _post(
    connection: Connection,
    registry: Registry,
    project_id: str,
    events: Sequence[BusEvent],
    receivers: Sequence[_Receiver],
    *,
    process_id: UUID,
) -> list[JobView]:
    bodies = [body_of(event) for event in events]
    rows = [
        {
            "id": uuid7(),
            "job_id": uuid7(),
            "endpoint_id": receiver.endpoint_id,
            "about_job_id": receiver.job_id,
            "url": receiver.url,
            "sealed": receiver.sealed,
            "event_source": events[receiver.number].source,
            "event_id": events[receiver.number].id,
            "event_type": events[receiver.number].type,
            "body": bodies[receiver.number],
        }
        for receiver in receivers
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = connection.execute(_INSERT, {"project": project_id, **columns})
    return deliver(connection, registry, project_id, [*made], process_id=process_id)


def deliver(
    connection: Connection,
    registry: Registry,
    project_id: str,
    made: Sequence[sa.Row[Any]],
    *,
    process_id: UUID,
) -> list[JobView]:
    """Each of the deliveries (id, job_id, endpoint_id) has the job that makes it."""
    jobs = [_job(registry, row.id, row.job_id) for row in made]
    if not jobs:
        return []
    (accepted,) = enqueue(connection, [Intake(project_id, jobs)], process_id=process_id)
    assert isinstance(accepted, Accepted)  # it has no key that could be refused
    return accepted.jobs


def body_of(event: BusEvent) -> str:
    """The event as it is sent: Standard Webhooks' three members within a CloudEvent 1.0."""
    at = event.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    subject = {} if event.subject is None else {"subject": event.subject}
    return documents.encode(
        {
            "type": event.type,
            "timestamp": at,
            "data": event.data,
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "time": at,
            **subject,
        }
    )


def _job(registry: Registry, delivery_id: UUID, job_id: UUID) -> NewJob:
    return check(
        registry,
        Submission(kind=DELIVER, args={"delivery_id": str(delivery_id)}),
        job_id=job_id,
    )


def _receivers(
    connection: Connection, project_id: str, events: Sequence[BusEvent]
) -> list[_Receiver]:
    binds = {
        "project": project_id,
        "types": [event.type for event in events],
        "jobs": [event.job_id for event in events],
    }
    return [_Receiver._make(row) for row in connection.execute(_RECEIVERS, binds)]


# In a pattern `*` is any text, and what LIKE takes for its own signs stands for itself.
_RECEIVERS = sa.text(r"""
WITH event AS (
    SELECT * FROM unnest(CAST(:types AS text[]), CAST(:jobs AS uuid[]))
                  WITH ORDINALITY AS event (type, job_id, number)
)
SELECT CAST(number AS integer) - 1, endpoint_id, NULL::uuid, NULL::text, NULL::bytea FROM (
    SELECT event.number, endpoint.id AS endpoint_id
    FROM event JOIN webhook_endpoint AS endpoint
      ON endpoint.project_id = :project AND endpoint.enabled AND EXISTS (
         SELECT FROM unnest(endpoint.event_types) AS pattern
         WHERE event.type LIKE replace(regexp_replace(pattern, '([\\%_])', '\\\1', 'g'), '*', '%'))
    ORDER BY endpoint.id FOR KEY SHARE OF endpoint
) AS wanted
UNION ALL
SELECT CAST(number AS integer) - 1, NULL, job_id, webhook.url, webhook.sealed
FROM event JOIN job_webhook AS webhook USING (job_id)
""")
_INSERT = sa.text("""
INSERT INTO webhook_delivery (id, project_id, endpoint_id, about_job_id, url, sealed, event_source,
                              event_id, event_type, body, state, next_at, job_id)
SELECT id, :project, endpoint_id, about_job_id, url, sealed, event_source, event_id, event_type,
       body, 'pending', clock_timestamp(), job_id
FROM unnest(CAST(:id AS uuid[]), CAST(:job_id AS uuid[]), CAST(:endpoint_id AS uuid[]),
            CAST(:about_job_id AS uuid[]), CAST(:url AS text[]), CAST(:sealed AS bytea[]),
            CAST(:event_source AS text[]), CAST(:event_id AS text[]), CAST(:event_type AS text[]),
            CAST(:body AS text[]))
     AS row (id, job_id, endpoint_id, about_job_id, url, sealed, event_source, event_id, event_type,
             body)
ON CONFLICT DO NOTHING
RETURNING id, job_id, endpoint_id
""")
