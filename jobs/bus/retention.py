"""Forgetting events that are old; the jobs that they made stay."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.ids import first_id

_PRUNE = sa.text("""
DELETE FROM cloud_event WHERE id = ANY (ARRAY (
    SELECT id FROM cloud_event WHERE id < :youngest AND received_at < :oldest
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
))
""")


def prune_events(connection: Connection, age: timedelta, limit: int) -> int:
    """At most `limit` events older than `age` are forgotten, with what came of them; how many."""
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    # No publisher's clock is further than a day from the database's.
    binds = {"youngest": first_id(now - age + timedelta(days=1)), "oldest": now - age}
    return connection.execute(_PRUNE, {**binds, "limit": limit}).rowcount
