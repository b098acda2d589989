"""Tickets: what a page may hold instead of a key. One opens one WebSocket, once, within seconds.

In PostgreSQL, because the broker may be away or wiped. Only hashes are kept; nothing here commits.
"""

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.keys.limits import KeyLimits

GOOD_FOR = timedelta(seconds=30)  # long enough to open a socket with, too short to be passed on
_BYTES = 32  # of randomness: a plain hash of it is safe at rest
_MOST_SWEPT = 100  # tickets that went unused, with each new one; they cannot pile up


class TicketView(NamedTuple):
    """Whose ticket it was."""

    project_id: str
    key_id: str
    name: str  #: the key's
    scopes: list[str]
    kinds: list[str] | None
    expires_at: datetime | None
    rate: float | None
    burst: int | None

    @property
    def limits(self) -> KeyLimits:
        """Those of the key."""
        return KeyLimits(self.kinds, self.expires_at, self.rate, self.burst)


_MAKE = sa.text("""
WITH swept AS (
    DELETE FROM ws_ticket WHERE hash IN (
        SELECT hash FROM ws_ticket WHERE expires_at < clock_timestamp()
        ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO ws_ticket (hash, key_id, scopes, expires_at)
SELECT :hash, id, :scopes, clock_timestamp() + :good_for FROM api_key WHERE id = :key
RETURNING expires_at
""")
_TAKE = sa.text("""
WITH taken AS (DELETE FROM ws_ticket WHERE hash = :hash RETURNING *)
SELECT api_key.project_id, taken.key_id, api_key.name, taken.scopes,
       api_key.kinds, api_key.expires_at, api_key.rate, api_key.burst
FROM taken JOIN api_key ON api_key.id = taken.key_id
WHERE taken.expires_at > clock_timestamp()
  AND (api_key.expires_at IS NULL OR api_key.expires_at > clock_timestamp())
""")


def make_ticket(
    connection: Connection, key_id: str, scopes: Collection[str]
) -> tuple[str, datetime] | None:
    """A new ticket of that key, and when it expires; None: the key has been deleted."""
    text = secrets.token_urlsafe(_BYTES)
    binds = {"hash": _hash(text), "key": key_id, "scopes": sorted(scopes)}
    row = connection.execute(_MAKE, {**binds, "good_for": GOOD_FOR, "most": _MOST_SWEPT}).first()
    return None if row is None else (text, row.expires_at)


def take_ticket(connection: Connection, text: str) -> TicketView | None:
    """Whose ticket it is, this once; None: nobody's, or not any more."""
    row = connection.execute(_TAKE, {"hash": _hash(text)}).first()
    return None if row is None else TicketView._make(row)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
