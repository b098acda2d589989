"""Engines for statements that are prepared once and run for days."""

from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Engine, event

from jobs import database
from jobs.database import LOCK_TIMEOUT
from jobs.settings import Settings


def make_engine(
    settings: Settings, *, name: str, size: int, lock_timeout: timedelta = LOCK_TIMEOUT
) -> Engine:
    """An engine whose plans go by the indexes that are there for them.

    A plan that PostgreSQL prepares while a table is young and small reads all of it, and stays
    when it has grown to a million rows, until the next ANALYZE.
    """
    milliseconds = int(lock_timeout / timedelta(milliseconds=1))
    engine = database.make_engine(settings, name=name, size=size)

    @event.listens_for(engine, "connect")
    def prefer_indexes(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.execute(f"SET lock_timeout = {milliseconds}")
        connection.execute(
            "SELECT set_config(name, 'off', false)"
            " FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'jit']) AS name"
        )
        connection.commit()

    return engine
