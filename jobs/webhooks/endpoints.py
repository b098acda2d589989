"""Endpoints and their secrets: made, shown, changed, rotated, deleted. Nothing here commits."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.errors import WebhookMissing
from jobs.ids import uuid7
from jobs.vault import Vault
from jobs.webhooks.models import WebhookEndpoint, WebhookSecret
from jobs.webhooks.signing import make_secret

MOST_SECRETS = 5  # that sign at a time; a header of so many signatures is 300 characters


class DisabledReason(StrEnum):
    """Why an endpoint is off."""

    OPERATOR = "operator"  #: somebody has switched it off
    GONE = "gone"  #: it answered 410
    FAILING = "failing"  #: it has failed for too long


class EndpointView(NamedTuple):
    """An endpoint as readers see it: without its secrets."""

    id: UUID
    url: str
    description: str
    event_types: list[str]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    secrets: list[dict[str, Any]]  #: created_at and expires_at of those that sign, newest first


class EndpointPage(NamedTuple):
    """Some endpoints, newest first."""

    endpoints: list[EndpointView]
    last_id: UUID | None  #: where the next page goes on; None: there is none


_NOW = sa.func.clock_timestamp()
_SIGNS = sa.or_(col(WebhookSecret.expires_at).is_(None), col(WebhookSecret.expires_at) > _NOW)


def _secrets() -> sa.ColumnElement[Any]:
    shown = sa.func.jsonb_build_object(
        "created_at", WebhookSecret.created_at, "expires_at", WebhookSecret.expires_at
    )
    newest_first = sa.func.jsonb_agg(
        sa.dialects.postgresql.aggregate_order_by(shown, col(WebhookSecret.id).desc()), type_=JSONB
    )
    found = sa.select(newest_first).where(
        col(WebhookSecret.endpoint_id) == col(WebhookEndpoint.id), _SIGNS
    )
    return sa.func.coalesce(found.scalar_subquery(), sa.literal([], JSONB), type_=JSONB)


def _view(row: sa.Row[Any]) -> EndpointView:
    view = EndpointView._make(row)
    secrets = [
        {name: at and datetime.fromisoformat(at) for name, at in each.items()}
        for each in view.secrets
    ]
    return view._replace(secrets=secrets)


_SHOWN = [
    *(col(getattr(WebhookEndpoint, name)) for name in EndpointView._fields[:-1]),
    _secrets().label("secrets"),
]


def create_endpoint(
    connection: Connection,
    vault: Vault,
    project_id: str,
    *,
    url: str,
    event_types: Sequence[str],
    description: str = "",
    enabled: bool = True,
) -> tuple[EndpointView, str]:
    """The project has one more endpoint; its secret is in no other place than the answer.

    SecretKeyMissing.
    """
    endpoint_id = uuid7()
    row = {
        "id": endpoint_id,
        "project_id": project_id,
        "url": url,
        "description": description,
        "event_types": [*event_types],
        **_switched(enabled=enabled),
    }
    connection.execute(sa.insert(WebhookEndpoint).values(row))
    _, secret = _add_secret(connection, vault, endpoint_id)
    return get_endpoint(connection, project_id, endpoint_id), secret


def get_endpoint(connection: Connection, project_id: str, webhook_id: UUID) -> EndpointView:
    """The project's endpoint as it is now. WebhookMissing."""
    row = connection.execute(sa.select(*_SHOWN).where(_one(project_id, webhook_id))).one_or_none()
    if row is None:
        raise WebhookMissing(webhook_id)
    return _view(row)


def page_endpoints(
    connection: Connection, project_id: str, *, limit: int, before: UUID | None = None
) -> EndpointPage:
    """The next `limit` endpoints older than `before`."""
    statement = sa.select(*_SHOWN).where(col(WebhookEndpoint.project_id) == project_id)
    if before is not None:
        statement = statement.where(col(WebhookEndpoint.id) < before)
    statement = statement.order_by(col(WebhookEndpoint.id).desc()).limit(limit + 1)
    found = [_view(row) for row in connection.execute(statement)]
    return EndpointPage(found[:limit], found[limit - 1].id if len(found) > limit else None)


def change_endpoint(
    connection: Connection, project_id: str, webhook_id: UUID, changes: Mapping[str, Any]
) -> EndpointView:
    """What `changes` names (url, event_types, description, enabled) is so. WebhookMissing.

    Switched on, it begins afresh; events of the time when it was off are not delivered.
    """
    values = {name: value for name, value in changes.items() if name != "enabled"}
    if "enabled" in changes:
        values |= _switched(enabled=changes["enabled"])
    statement = sa.update(WebhookEndpoint).where(_one(project_id, webhook_id))
    connection.execute(statement.values(updated_at=_NOW, **values))
    return get_endpoint(connection, project_id, webhook_id)


class SwitchedOff(NamedTuple):
    """An endpoint that Lading has switched off."""

    id: UUID
    project_id: str
    url: str
    reason: str
    at: datetime


def take_switched_off(connection: Connection, limit: int) -> list[SwitchedOff]:
    """At most `limit` endpoints that were switched off, each once: whoever takes them tells."""
    return [SwitchedOff._make(row) for row in connection.execute(_TAKE_OFF, {"limit": limit})]


def delete_endpoint(connection: Connection, project_id: str, webhook_id: UUID) -> None:
    """The endpoint is gone, with its secrets and deliveries. WebhookMissing."""
    statement = sa.delete(WebhookEndpoint).where(_one(project_id, webhook_id))
    if not connection.execute(statement).rowcount:
        raise WebhookMissing(webhook_id)


def rotate_secret(
    connection: Connection, vault: Vault, project_id: str, webhook_id: UUID, overlap: timedelta
) -> tuple[EndpointView, str]:
    """A new secret signs from now on, and for `overlap` at most those before it do, too.

    At most MOST_SECRETS sign; the oldest go first. Locks the endpoint. WebhookMissing,
    SecretKeyMissing.
    """
    locked = sa.select(col(WebhookEndpoint.id)).where(_one(project_id, webhook_id))
    if connection.execute(locked.with_for_update()).first() is None:
        raise WebhookMissing(webhook_id)
    secret_id, secret = _add_secret(connection, vault, webhook_id)
    binds = {"endpoint": webhook_id, "newest": secret_id, "most": MOST_SECRETS}
    connection.execute(_AGE, {**binds, "overlap": overlap})
    return get_endpoint(connection, project_id, webhook_id), secret


def _add_secret(connection: Connection, vault: Vault, endpoint_id: UUID) -> tuple[UUID, str]:
    secret_id, secret = uuid7(), make_secret()
    row = {"id": secret_id, "endpoint_id": endpoint_id, "sealed": vault.seal(secret, secret_id)}
    connection.execute(sa.insert(WebhookSecret).values(row))
    return secret_id, secret


def _one(project_id: str, webhook_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(
        col(WebhookEndpoint.id) == webhook_id, col(WebhookEndpoint.project_id) == project_id
    )


def _switched(*, enabled: bool) -> dict[str, Any]:
    """The columns of an endpoint that somebody switches on or off."""
    if enabled:
        return {
            "enabled": True,
            "disabled_reason": None,
            "disabled_at": None,
            "failing_since": None,
            "is_told": True,
        }
    return {"enabled": False, "disabled_reason": DisabledReason.OPERATOR, "disabled_at": _NOW}


_TAKE_OFF = sa.text("""
UPDATE webhook_endpoint SET is_told = true WHERE id = ANY (ARRAY (
    SELECT id FROM webhook_endpoint WHERE NOT is_told ORDER BY id LIMIT :limit
    FOR NO KEY UPDATE SKIP LOCKED
)) AND NOT enabled
RETURNING id, project_id, url, disabled_reason, disabled_at
""")
# The newest has no end; the end that an earlier rotation gave is not put off by a later one.
_AGE = sa.text("""
WITH known AS (
    SELECT id, row_number() OVER (ORDER BY created_at DESC, id DESC) > :most
               OR coalesce(expires_at <= statement_timestamp(), false) AS is_over
    FROM webhook_secret WHERE endpoint_id = :endpoint
),
aged AS (
    UPDATE webhook_secret AS secret
    SET expires_at = least(expires_at, statement_timestamp() + CAST(:overlap AS interval))
    FROM known WHERE known.id = secret.id AND NOT is_over AND secret.id <> :newest
)
DELETE FROM webhook_secret AS secret USING known WHERE known.id = secret.id AND is_over
""")
