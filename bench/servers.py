"""PostgreSQL and Valkey for one run of the bench: durable, and emptied for each peer.

What PostgreSQL acknowledges is on the disk (fsync, synchronous_commit); Valkey appends to its file
and flushes that every second, which is what compose does and what Redis advises.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

from dev.postgres import EmbeddedPostgres, remove_data
from dev.spawning import unprivileged_account
from dev.valkey import EmbeddedValkey

DATABASE = "bench"


class Servers:
    """Usable as a context manager; nothing of them is left afterwards."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lading-bench-"))
        if account := unprivileged_account():
            os.chown(self.folder, account.uid, account.gid)
        self.postgres = EmbeddedPostgres(self.folder / "postgres", durable=True)
        self.valkey = EmbeddedValkey(self.folder / "valkey", durable=True)

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.valkey.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    @property
    def database_url(self) -> str:
        return self.postgres.url_of(DATABASE)

    @property
    def redis_url(self) -> str:
        """Without the number of a database."""
        return self.valkey.url.rpartition("/")[0]

    @property
    def pids(self) -> dict[str, list[int]]:
        assert self.postgres.pid
        assert self.valkey.pid
        return {"postgres": [self.postgres.pid], "redis": [self.valkey.pid]}

    def clear(self) -> None:
        """The database is new, and Redis empty."""
        with psycopg.connect(self.postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {DATABASE}")
            connection.execute("CHECKPOINT")
        with self.connect_redis() as client:
            client.flushall()

    def query(self, statement: str) -> Any:
        """The first value of the first row."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        assert row
        return row[0]

    def connect_redis(self, database: int = 0) -> "redis.Redis":
        """A client of that database."""
        return redis.Redis(host="127.0.0.1", port=self.valkey.port, db=database)

    def sizes(self) -> dict[str, float]:
        """Bytes: of the database, of all WAL so far, of what Redis holds."""
        with self.connect_redis() as client:
            memory: Any = client.info("memory")
        return {
            "database": float(self.query("SELECT pg_database_size(current_database())")),
            "wal": float(self.query("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")),
            "redis": float(memory["used_memory"]),
        }

    def _stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop()
        remove_data(self.postgres.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
