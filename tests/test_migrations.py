"""The migrations make exactly the models, and can be taken back."""

import pytest
from sqlalchemy import create_engine, inspect, text

from dev.postgres import EmbeddedPostgres
from tests.conftest import create_database, migrate


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    create_database(postgres, "migrations")
    return postgres.url_of("migrations")


def leftovers(url: str) -> list[str]:
    """What a database holds besides Alembic's own table."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        types = "SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace"
        mine = f"{types} WHERE nspname = 'public' AND typtype = 'e'"
        enums = [row[0] for row in connection.execute(text(mine))]
    tables = [table for table in inspect(engine).get_table_names() if table != "alembic_version"]
    engine.dispose()
    return tables + enums


def test_migrations_go_up_and_down_and_match_the_models(url: str) -> None:
    migrate(url, "head")
    migrate(url, command="check")
    migrate(url, "base", "downgrade")
    assert leftovers(url) == []
    migrate(url, "head")
    assert "job" in leftovers(url)
