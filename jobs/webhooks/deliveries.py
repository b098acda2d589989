"""Deliveries as readers see them, made again, settled, and forgotten. Nothing here commits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.errors import DeliveryMissing, DeliveryPending, WebhookOff
from jobs.ids import first_id, uuid7
from jobs.queries import get_job
from jobs.registry import Registry
from jobs.views import JobView
from jobs.webhooks.endpoints import get_endpoint
from jobs.webhooks.fanning import BusEvent, deliver, post
from jobs.webhooks.models import WebhookAttempt, WebhookDelivery

TEST = "webhook.test"  #: the type of what is sent to try an endpoint out
CLOCK_SLACK = timedelta(days=1)  # no maker's clock is further from the database's


class DeliveryState(StrEnum):
    """Whether the receiver has taken it."""

    PENDING = "pending"  #: an attempt is under way, or waits for `next_at`
    DELIVERED = "delivered"  #: it was answered with 2xx
    FAILED = "failed"  #: no attempt is left, or the endpoint is off


class DeliveryView(NamedTuple):
    """A delivery as readers see it."""

    id: UUID
    endpoint_id: UUID | None
    about_job_id: UUID | None
    event_source: str
    event_id: str
    event_type: str
    state: str
    attempts: int
    last_status: int | None
    last_error: str | None
    next_at: datetime | None
    job_id: UUID
    created_at: datetime
    finished_at: datetime | None


class AttemptView(NamedTuple):
    """One request; `seconds` is None while it is under way, or when its process died."""

    number: int
    job_id: UUID
    at: datetime
    seconds: float | None
    status: int | None
    error: str | None
    response: str | None


class DeliveryPage(NamedTuple):
    """Some deliveries, newest first."""

    deliveries: list[DeliveryView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


class Story(NamedTuple):
    """All about a delivery."""

    delivery: DeliveryView
    body: str
    attempts: list[AttemptView]


_SHOWN = [col(getattr(WebhookDelivery, name)) for name in DeliveryView._fields]
_ATTEMPT = [col(getattr(WebhookAttempt, name)) for name in AttemptView._fields]


def page_deliveries(
    connection: Connection,
    project_id: str,
    webhook_id: UUID,
    states: Sequence[DeliveryState],
    *,
    limit: int,
    before: UUID | None = None,
) -> DeliveryPage:
    """The endpoint's next `limit` deliveries older than `before`, of these states. WebhookMissing.

    No states: of all.
    """
    get_endpoint(connection, project_id, webhook_id)
    statement = sa.select(*_SHOWN).where(_of(project_id, webhook_id))
    if states:
        statement = statement.where(col(WebhookDelivery.state).in_(states))
    if before is not None:
        statement = statement.where(col(WebhookDelivery.id) < before)
    statement = statement.order_by(col(WebhookDelivery.id).desc()).limit(limit + 1)
    found = [DeliveryView._make(row) for row in connection.execute(statement)]
    return DeliveryPage(found[:limit], found[limit - 1].id if len(found) > limit else None)


def list_of_job(connection: Connection, project_id: str, job_id: UUID) -> list[DeliveryView]:
    """What the job's own webhook was told, newest first. JobNotFound: no such job, nor any."""
    of_job = sa.and_(
        col(WebhookDelivery.about_job_id) == job_id,
        col(WebhookDelivery.project_id) == project_id,
    )
    statement = sa.select(*_SHOWN).where(of_job).order_by(col(WebhookDelivery.id).desc())
    found = [DeliveryView._make(row) for row in connection.execute(statement)]
    if not found:
        get_job(connection, project_id, job_id)
    return found


def get_story(
    connection: Connection, project_id: str, webhook_id: UUID, delivery_id: UUID
) -> Story:
    """The delivery with its body and its attempts, oldest first. DeliveryMissing."""
    one = sa.and_(_of(project_id, webhook_id), col(WebhookDelivery.id) == delivery_id)
    row = connection.execute(sa.select(*_SHOWN, col(WebhookDelivery.body)).where(one)).one_or_none()
    if row is None:
        raise DeliveryMissing(delivery_id)
    attempts = (
        sa.select(*_ATTEMPT)
        .where(col(WebhookAttempt.delivery_id) == delivery_id)
        .order_by(col(WebhookAttempt.number))
    )
    return Story(
        DeliveryView._make(row[:-1]),
        row.body,
        [AttemptView._make(each) for each in connection.execute(attempts)],
    )


def replay(
    connection: Connection,
    registry: Registry,
    project_id: str,
    webhook_id: UUID,
    delivery_id: UUID,
    *,
    process_id: UUID,
) -> list[JobView]:
    """The ended delivery is made again, with the same webhook-id and a whole schedule; its job.

    DeliveryMissing, DeliveryPending, WebhookOff, WebhookMissing.
    """
    _require_on(connection, project_id, webhook_id)
    binds = {"project": project_id, "endpoint": webhook_id}
    binds |= {"ids": [delivery_id], "jobs": [uuid7()]}
    made = [*connection.execute(_AGAIN, binds)]
    if not made:
        get_story(connection, project_id, webhook_id, delivery_id)
        raise DeliveryPending(delivery_id)
    return deliver(connection, registry, project_id, made, process_id=process_id)


def replay_failed(
    connection: Connection,
    registry: Registry,
    project_id: str,
    webhook_id: UUID,
    since: datetime,
    *,
    limit: int,
    process_id: UUID,
) -> list[JobView]:
    """As `replay`: the oldest `limit` of the endpoint's failed deliveries made `since` that time.

    Fewer than `limit` means that these were all. WebhookOff, WebhookMissing.
    """
    _require_on(connection, project_id, webhook_id)
    binds = {"project": project_id, "endpoint": webhook_id}
    found = connection.execute(
        _FAILED,
        {**binds, "since": since, "first": first_id(since - CLOCK_SLACK), "limit": limit},
    )
    ids = [*found.scalars()]
    made = connection.execute(_AGAIN, {**binds, "ids": ids, "jobs": [uuid7() for _ in ids]})
    return deliver(connection, registry, project_id, [*made], process_id=process_id)


def send_test(
    connection: Connection,
    registry: Registry,
    project_id: str,
    webhook_id: UUID,
    *,
    process_id: UUID,
) -> tuple[DeliveryView, list[JobView]]:
    """The endpoint gets an event of its own, whatever it asks for. WebhookOff, WebhookMissing."""
    _require_on(connection, project_id, webhook_id)
    event = {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": f"/lading/webhooks/{webhook_id}",
        "type": TEST,
        "data": {"webhook_id": str(webhook_id), "message": "It works."},
    }
    told = BusEvent(event)
    jobs = post(connection, registry, project_id, told, webhook_id, process_id=process_id)
    sent = sa.and_(_of(project_id, webhook_id), col(WebhookDelivery.event_id) == event["id"])
    row = connection.execute(sa.select(*_SHOWN).where(sent)).one()
    return DeliveryView._make(row), jobs


def settle(connection: Connection, after: UUID, limit: int) -> UUID | None:
    """Of the next `limit` pending deliveries, those whose job has ended without them have failed.

    Up to which they were looked at; None: these were the last. Locks those it settles.
    """
    row = connection.execute(_SETTLE, {"after": after, "limit": limit}).one()
    return None if row.looked_at < limit else row.reach


def forget(connection: Connection, age: timedelta, limit: int) -> int:
    """At most `limit` deliveries that ended more than `age` ago are gone; how many."""
    return connection.execute(_FORGET, {"age": age, "limit": limit}).rowcount


def _of(project_id: str, webhook_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(
        col(WebhookDelivery.endpoint_id) == webhook_id,
        col(WebhookDelivery.project_id) == project_id,
    )


def _require_on(connection: Connection, project_id: str, webhook_id: UUID) -> None:
    if not get_endpoint(connection, project_id, webhook_id).enabled:
        raise WebhookOff(webhook_id)


_FAILED = sa.text("""
SELECT id FROM webhook_delivery
WHERE endpoint_id = :endpoint AND project_id = :project AND state = 'failed'
  AND id >= :first AND created_at >= :since
ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_AGAIN = sa.text("""
UPDATE webhook_delivery AS delivery
SET state = 'pending', finished_at = NULL, next_at = clock_timestamp(), job_id = again.job_id
FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS uuid[])) AS again (id, job_id)
WHERE delivery.id = again.id AND endpoint_id = :endpoint AND project_id = :project
  AND state <> 'pending'
RETURNING delivery.id, delivery.job_id, delivery.endpoint_id, delivery.url
""")
_SETTLE = sa.text("""
WITH pending AS (
    SELECT id, job_id FROM webhook_delivery
    WHERE state = 'pending' AND id > :after ORDER BY id LIMIT :limit
),
ended AS (
    SELECT delivery.id, CASE WHEN job.id IS NULL THEN 'its job was deleted'
                             ELSE concat('its job has ', job.state, ': ', job.error ->> 'message')
                        END AS error
    FROM pending JOIN webhook_delivery AS delivery USING (id)
    LEFT JOIN job ON job.id = pending.job_id
    WHERE delivery.state = 'pending' AND delivery.job_id = pending.job_id
      AND (job.id IS NULL OR job.finished_at IS NOT NULL)
    FOR UPDATE OF delivery SKIP LOCKED
),
settled AS (
    UPDATE webhook_delivery AS delivery
    SET state = 'failed', last_error = ended.error, next_at = NULL, finished_at = clock_timestamp()
    FROM ended WHERE ended.id = delivery.id
)
SELECT (SELECT id FROM pending ORDER BY id DESC LIMIT 1) AS reach,
       (SELECT count(*) FROM pending) AS looked_at
""")
_FORGET = sa.text("""
DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM webhook_delivery
    WHERE state <> 'pending' AND finished_at < clock_timestamp() - CAST(:age AS interval)
    ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")
