"""What PostgreSQL keeps and tidies up meanwhile, as its own figures have it."""

from typing import NamedTuple

import psycopg


class Table(NamedTuple):
    """One table at some time."""

    table_bytes: int
    index_bytes: int
    live: int  #: rows, as PostgreSQL estimates
    dead: int  #: … that vacuum has not removed yet
    vacuums: int  #: by autovacuum, so far
    analyzes: int
    updates: int  #: so far
    hot_updates: int  #: … without a new entry in any index


class Storage(NamedTuple):
    """All of them, and their indexes."""

    tables: dict[str, Table]
    index_bytes: dict[str, int]  #: by index
    wal_bytes: int  #: so far
    page_images: int  #: whole pages in it so far, which each checkpoint makes anew

    @property
    def dead(self) -> int:
        return sum(each.dead for each in self.tables.values())

    @property
    def vacuums(self) -> int:
        return sum(each.vacuums for each in self.tables.values())

    @property
    def all_bytes(self) -> tuple[int, int]:
        """Of tables, and of indexes."""
        tables = self.tables.values()
        return sum(each.table_bytes for each in tables), sum(each.index_bytes for each in tables)


def look(database_url: str) -> Storage:
    """Now; costs some milliseconds, however large they are."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        tables = {name: Table(*rest) for name, *rest in connection.execute(_TABLES)}
        indexes: dict[str, int] = dict(connection.execute(_INDEXES).fetchall())
        ((wal, images),) = connection.execute(_WAL)
    return Storage(tables, indexes, int(wal), images)


_TABLES = """
SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup,
    autovacuum_count, autoanalyze_count, n_tup_upd, n_tup_hot_upd
FROM pg_stat_user_tables ORDER BY relname
"""
_INDEXES = """
SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes ORDER BY indexrelname
"""
_WAL = "SELECT wal_bytes, wal_fpi FROM pg_stat_wal"
