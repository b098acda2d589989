"""Real servers of the tests' own: one PostgreSQL and one Valkey per test process.

A database per module is a copy of a migrated template (50 ms); `connection` rolls back.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from dev.postgres import EmbeddedPostgres, temporary_postgres
from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs import database
from jobs.settings import Settings

ROOT = Path(__file__).parent.parent
TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A throw-away server with the template database `migrated`."""
    with temporary_postgres() as server:
        create_database(server, TEMPLATE)
        migrate(server.url_of(TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with temporary_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """A migrated database of the module's own."""
    name = f"{re.sub(r'[^a-z0-9]+', '_', request.node.name)}_{uuid4().hex[:8]}"
    create_database(postgres, name, TEMPLATE)
    return postgres.url_of(name)


@pytest.fixture(scope="module")
def settings(
    database_url: str, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """For this module's database and the test process's broker."""
    return Settings(
        database_url=SecretStr(database_url),
        broker_url=SecretStr(valkey.url),
        files_dir=tmp_path_factory.mktemp("files"),
        kinds=("tests.kinds_for_tests",),
        secret_key=SecretStr("kept-for-the-tests-" + "x" * 32),
    )


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[Engine]:
    """Tests may commit here."""
    engine = database.make_engine(settings, name="tests", size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """What a test writes here is gone after it."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start: a shell has what runs in its background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def create_database(server: EmbeddedPostgres, name: str, template: str = "template0") -> None:
    url = server.url_of("postgres").replace("postgresql://", "postgresql+psycopg://")
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))


def migrate(database_url: str, target: str = "head", command: str = "upgrade") -> None:
    """`alembic upgrade head`, or another command; `check` takes no target."""
    env = {**os.environ, "LADING_DATABASE_URL": database_url, "LADING_BROKER_URL": "redis://none"}
    alembic = [sys.executable, "-m", "alembic", command, *([target] if command != "check" else [])]
    subprocess.run(alembic, cwd=ROOT, env=env, check=True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their length: every process must find the same names."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None
