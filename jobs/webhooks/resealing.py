"""Secrets at rest under the newest key: what an older one has sealed is sealed anew."""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.ids import FIRST
from jobs.vault import Vault


class _Place(NamedTuple):
    """Where sealed secrets stand, by the row's key, and what they are bound to."""

    table: str
    key: str
    bound_to: str


PLACES = (
    _Place("webhook_secret", "id", "id"),
    _Place("trigger", "id", "id"),
    _Place("schedule", "id", "id"),
    _Place("job_webhook", "job_id", "sealed_for"),
    _Place("webhook_delivery", "id", "sealed_for"),
)


class Resealed(NamedTuple):
    """What a slice has come to."""

    reach: UUID | None  #: None: it was the last one
    resealed: int


def reseal(
    connection: Connection, vault: Vault, place: _Place, limit: int, after: UUID = FIRST
) -> Resealed:
    """Of the next `limit` secrets there, all are sealed with the newest key.

    SealedOtherwise: the key of one is not among those that are known. Locks the rows that change.
    """
    found = connection.execute(_select(place), {"after": after, "limit": limit}).all()
    stale = [row for row in found if not vault.is_current(row.sealed)]
    for row in stale:
        anew = vault.seal(vault.open(row.sealed, row.bound_to), row.bound_to)
        connection.execute(_update(place), {"key": row.key, "before": row.sealed, "anew": anew})
    return Resealed(found[-1].key if len(found) == limit else None, len(stale))


# Names of tables and columns only; every value is bound.
def _select(place: _Place) -> sa.TextClause:
    return sa.text(f"""
SELECT {place.key} AS key, {place.bound_to} AS bound_to, sealed FROM {place.table}
WHERE sealed IS NOT NULL AND {place.key} > :after ORDER BY {place.key} LIMIT :limit
""")  # noqa: S608 - see above


def _update(place: _Place) -> sa.TextClause:
    return sa.text(f"""
UPDATE {place.table} SET sealed = :anew WHERE {place.key} = :key AND sealed = :before
""")  # noqa: S608 - see above
