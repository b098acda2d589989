"""Keys at rest: hashes, scopes, and when each was last used. Nothing here commits."""

import hmac
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql
from sqlmodel import col

from jobs.errors import KeyGone, KeyMissing
from jobs.keys.limits import KeyLimits
from jobs.keys.scopes import Scope
from jobs.keys.text import KeyText, make_key
from jobs.models import ApiKey, Project

UNLIMITED = KeyLimits()
LAST_USED_STEP = timedelta(minutes=1)  # finer would be a write for every request


class KeyView(NamedTuple):
    """A key as readers see it."""

    id: str
    project_id: str
    name: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    kinds: list[str] | None
    expires_at: datetime | None
    rate: float | None
    burst: int | None

    @property
    def limits(self) -> KeyLimits:
        """What it may not."""
        return KeyLimits(self.kinds, self.expires_at, self.rate, self.burst)


_SHOWN = [col(getattr(ApiKey, name)) for name in KeyView._fields]


_GOOD = sa.or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > sa.func.clock_timestamp())


def create_key(
    connection: Connection,
    project_id: str,
    name: str,
    scopes: Collection[Scope] = (Scope.ADMIN,),
    limits: KeyLimits = UNLIMITED,
) -> tuple[KeyView, str]:
    """The project, new or not, has one more key; its text is in no other place than the answer."""
    key = make_key()
    row = {
        "id": key.id,
        "project_id": project_id,
        "name": name,
        "secret_hash": key.hash,
        "scopes": sorted(str(scope) for scope in scopes),
        **limits._asdict(),
        "kinds": None if limits.kinds is None else sorted(limits.kinds),
    }
    project = postgresql.insert(Project).values(id=project_id, name=project_id)
    connection.execute(project.on_conflict_do_nothing())
    made = connection.execute(sa.insert(ApiKey).values(row).returning(*_SHOWN)).one()
    return KeyView._make(made), key.text


def require_key(connection: Connection, key_id: str) -> None:
    """The key is good until the caller's transaction ends, whatever is remembered. KeyGone."""
    statement = sa.select(sa.literal(1)).where(col(ApiKey.id) == key_id, _GOOD)
    if connection.execute(statement.with_for_update(read=True)).first() is None:
        raise KeyGone(key_id)


def find_key(connection: Connection, key: KeyText) -> KeyView | None:
    """The key, where there is one of that id and that secret that has not expired."""
    statement = sa.select(*_SHOWN, col(ApiKey.secret_hash)).where(col(ApiKey.id) == key.id, _GOOD)
    row = connection.execute(statement).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, key.hash):
        return None
    return KeyView._make(row[:-1])


def list_keys(connection: Connection, project_id: str) -> list[KeyView]:
    """The project's keys, newest first."""
    statement = (
        sa.select(*_SHOWN)
        .where(col(ApiKey.project_id) == project_id)
        .order_by(col(ApiKey.created_at).desc(), col(ApiKey.id))
    )
    return [KeyView._make(row) for row in connection.execute(statement)]


def find_existing(connection: Connection, key_ids: Collection[str]) -> set[str]:
    """Those of the keys that are still there and have not expired."""
    statement = sa.select(col(ApiKey.id)).where(col(ApiKey.id).in_(key_ids), _GOOD)
    return {*connection.execute(statement).scalars()}


def delete_key(connection: Connection, project_id: str, key_id: str) -> None:
    """The key opens nothing any more. KeyMissing."""
    statement = sa.delete(ApiKey).where(
        col(ApiKey.project_id) == project_id, col(ApiKey.id) == key_id
    )
    if not connection.execute(statement).rowcount:
        raise KeyMissing(key_id)


def touch_key(connection: Connection, key_id: str) -> None:
    """The key shows that it was used within the last minute."""
    now = sa.func.clock_timestamp()
    used = col(ApiKey.last_used_at)
    stale = sa.or_(used.is_(None), used < now - LAST_USED_STEP)
    connection.execute(
        sa.update(ApiKey).where(col(ApiKey.id) == key_id, stale).values(last_used_at=now)
    )
