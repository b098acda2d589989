"""Alembic's entry: migrates the database of LADING_DATABASE_URL.

One advisory lock lets several hosts start at once; the first migrates, the others wait. A migration
that cannot have a table's lock within two seconds gives up instead of queueing everybody behind it.
"""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import NullPool, create_engine, text
from sqlmodel.sql.sqltypes import AutoString

from jobs.database import connect_args
from jobs.settings import load_settings
from jobs.tables import METADATA

LOCK = 0x1AD1_0000  # "lading"; any number that nothing else in the database uses


def render(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """SQLModel's own string type is a plain string in a migration."""
    return "sa.String()" if kind == "type" and isinstance(item, AutoString) else False


def migrate() -> None:
    """The schema is what the newest revision says."""
    engine = create_engine(
        load_settings().sqlalchemy_url, poolclass=NullPool, connect_args=connect_args("migrate")
    )
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = '10min'"))
        connection.execute(text("SET lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.execute(text("SET lock_timeout = '2s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            compare_server_default=True,
            render_item=render,
        )
        with context.begin_transaction():
            context.run_migrations()


migrate()
