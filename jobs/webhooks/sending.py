"""One attempt of a delivery, from both sides of the request: begun, and its outcome recorded.

Both run in transactions of the job that makes the delivery. An attempt that was begun and never
recorded shows that its process died meanwhile: the receiver may have had the event.
"""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import INTERVAL

from jobs.errors import SecretKeyMissing
from jobs.vault import SealedOtherwise, Vault
from jobs.webhooks.endpoints import DisabledReason

GONE = 410


class Parcel(NamedTuple):
    """What is to be sent, and where to."""

    delivery_id: UUID
    number: int  #: of the attempt
    endpoint_id: UUID | None
    url: str
    secrets: list[str]  #: each signs; none: the receiver gave none
    body: bytes
    flaw: str | None  #: why it cannot be sent just now


class Outcome(NamedTuple):
    """What came of a request."""

    status: int | None = None  #: None: no answer
    seconds: float = 0.0
    error: str | None = None  #: None: it was delivered
    response: str | None = None  #: how the answer's body begins
    retry_after: timedelta | None = None  #: what the receiver asks for


def begin(connection: Connection, vault: Vault, delivery_id: UUID, job_id: UUID) -> Parcel | str:
    """One more attempt has begun, made by that job; or why there is none to make."""
    row = connection.execute(_BEGIN, {"delivery": delivery_id, "job": job_id}).one_or_none()
    if row is None:
        return "the delivery is gone, has ended, or another job makes it"
    if row.endpoint_id is not None and not row.enabled:
        connection.execute(_GIVE_UP, {"delivery": delivery_id, "error": "the webhook is off"})
        return "the webhook is off"
    binds = {"delivery": delivery_id, "number": row.attempts, "job": job_id}
    connection.execute(_BEGIN_ATTEMPT, binds)
    secrets, flaw = [], None
    try:
        secrets = _secrets(connection, vault, row)
    except (SecretKeyMissing, SealedOtherwise) as error:
        flaw = f"its secret cannot be read: {error}"
    body = row.body.encode()
    return Parcel(delivery_id, row.attempts, row.endpoint_id, row.url, secrets, body, flaw)


def record(
    connection: Connection,
    parcel: Parcel,
    outcome: Outcome,
    *,
    next_in: timedelta | None,
    disable_after: timedelta,
) -> DisabledReason | None:
    """The attempt ended so: delivered, to be tried again `next_in` that time, or (None) failed.

    Why the endpoint is off, if this has switched it off.
    """
    is_delivered = outcome.error is None
    binds = {
        "delivery": parcel.delivery_id,
        "number": parcel.number,
        "state": "delivered" if is_delivered else "failed" if next_in is None else "pending",
        "next_in": next_in,
        **outcome._asdict(),
    }
    connection.execute(_RECORD, binds)
    if parcel.endpoint_id is None:
        return None
    if is_delivered:
        connection.execute(_WORKS, {"endpoint": parcel.endpoint_id})
        return None
    is_gone = outcome.status == GONE
    reason = connection.execute(
        _FAILS, {"endpoint": parcel.endpoint_id, "gone": is_gone, "after": disable_after}
    ).scalar_one_or_none()
    return None if reason is None else DisabledReason(reason)


def _secrets(connection: Connection, vault: Vault, row: sa.Row[Any]) -> list[str]:
    """Those that sign now, the newest first."""
    if row.endpoint_id is None:
        return [] if row.sealed is None else [vault.open(row.sealed, row.sealed_for)]
    found = connection.execute(_SECRETS, {"endpoint": row.endpoint_id})
    return [vault.open(each.sealed, each.id) for each in found]


_BEGIN = sa.text("""
WITH begun AS (
    UPDATE webhook_delivery SET attempts = attempts + 1
    WHERE id = :delivery AND job_id = :job AND state = 'pending'
    RETURNING *
)
SELECT begun.attempts, begun.endpoint_id, begun.sealed, begun.sealed_for, begun.body,
       endpoint.enabled, coalesce(endpoint.url, begun.url) AS url
FROM begun LEFT JOIN webhook_endpoint AS endpoint ON endpoint.id = begun.endpoint_id
""")
_BEGIN_ATTEMPT = sa.text("""
INSERT INTO webhook_attempt (delivery_id, number, job_id) VALUES (:delivery, :number, :job)
""")
_GIVE_UP = sa.text("""
UPDATE webhook_delivery
SET state = 'failed', attempts = attempts - 1, last_error = :error, next_at = NULL,
    finished_at = clock_timestamp()
WHERE id = :delivery
""")
_SECRETS = sa.text("""
SELECT id, sealed FROM webhook_secret
WHERE endpoint_id = :endpoint AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY created_at DESC, id DESC
""")
_RECORD = sa.text("""
WITH attempt AS (
    UPDATE webhook_attempt
    SET seconds = :seconds, status = :status, error = :error, response = :response
    WHERE delivery_id = :delivery AND number = :number
)
UPDATE webhook_delivery
SET state = :state, last_status = :status, last_error = :error,
    next_at = clock_timestamp() + :next_in,
    finished_at = CASE WHEN :state <> 'pending' THEN clock_timestamp() END
WHERE id = :delivery
""").bindparams(
    sa.bindparam("state", type_=sa.Text),
    sa.bindparam("status", type_=sa.SmallInteger),
    sa.bindparam("error", type_=sa.Text),
    sa.bindparam("response", type_=sa.Text),
    sa.bindparam("seconds", type_=sa.Float),
    sa.bindparam("next_in", type_=INTERVAL),
)
_WORKS = sa.text("""
UPDATE webhook_endpoint SET failing_since = NULL WHERE id = :endpoint AND failing_since IS NOT NULL
""")
_FAILS = sa.text("""
WITH told AS (
    SELECT id, CASE WHEN :gone THEN 'gone'
                    WHEN failing_since < clock_timestamp() - :after THEN 'failing' END AS reason
    FROM webhook_endpoint WHERE id = :endpoint AND enabled
      AND (:gone OR failing_since IS NULL OR failing_since < clock_timestamp() - :after)
    FOR NO KEY UPDATE
)
UPDATE webhook_endpoint AS endpoint
SET failing_since = coalesce(failing_since, clock_timestamp()),
    enabled = reason IS NULL, disabled_reason = reason, is_told = reason IS NULL,
    disabled_at = CASE WHEN reason IS NOT NULL THEN clock_timestamp() END
FROM told WHERE told.id = endpoint.id
RETURNING reason
""").bindparams(sa.bindparam("gone", type_=sa.Boolean), sa.bindparam("after", type_=INTERVAL))
