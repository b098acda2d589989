"""Writing the trail: an entry stands in the transaction of what it tells of.

Details are few and short: what was changed to what. Never a secret, never a job's args.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.ids import uuid7
from jobs.trail.models import AuditEntry


class Actor(NamedTuple):
    """Who acts, and in which request."""

    project_id: str
    key_id: str | None  #: None: Lading itself, by what it was told before
    name: str  #: the key's, or what of Lading it is
    request_id: str | None = None
    address: str | None = None  #: the client's, as the server sees it


class Deed(NamedTuple):
    """What was done, and to what."""

    action: str  #: a noun and a verb, as in `job.cancel`
    target: str | UUID
    details: Mapping[str, Any] = {}  #: JSON, short; what is None is left out


def record(connection: Connection, actor: Actor, deed: Deed) -> None:
    """The trail has an entry, as soon as the caller's transaction is committed."""
    details = {name: value for name, value in deed.details.items() if value is not None}
    row = {
        **actor._asdict(),
        "id": uuid7(),
        "key_name": actor.name,
        "action": deed.action,
        "target": str(deed.target),
        "details": details,
    }
    del row["name"]
    connection.execute(sa.insert(AuditEntry), row)
