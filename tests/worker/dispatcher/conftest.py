"""Dispatchers as real processes, with a broker of their own that tests may kill, wipe and freeze.

The lease is three seconds, and intervals scale with it: a beat and a rescue each 0.5 s, ring again
after 1.5 s.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs.broker import Broker
from jobs.hints import Hints
from jobs.settings import Settings
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.jobs.ringing import add_worker

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[EmbeddedValkey]:
    with temporary_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def settings(
    database_url: str, own_valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        broker_url=SecretStr(own_valkey.url),
        files_dir=tmp_path_factory.mktemp("files"),
        lease_seconds=3,
    )


@pytest.fixture(autouse=True)
def clean(engine: Engine, own_valkey: EmbeddedValkey) -> Iterator[None]:
    """Every test finds empty tables, and a broker that answers."""
    yield
    if own_valkey.pid is None:
        own_valkey.start()
    with engine.begin() as connection:
        tables = "job, worker, dispatcher, queue, broker_epoch"
        connection.execute(text(f"TRUNCATE {tables} CASCADE"))


@pytest.fixture
def bells(settings: Settings, clean: None) -> Iterator[Broker]:
    broker = Broker(settings)
    broker.purge(["default"])
    yield broker
    broker.close()


@pytest.fixture
def hints(settings: Settings) -> Iterator[Hints]:
    hints = Hints(settings.broker_url.get_secret_value())
    yield hints
    hints.close()


@pytest.fixture
def worker_lives(engine: Engine, clean: None) -> None:
    """A worker of two slots that will be live for an hour."""
    with engine.begin() as connection:
        add_worker(connection, seen_at=text("clock_timestamp() + interval '1 hour'"))


@pytest.fixture
def start(settings: Settings, engine: Engine, clean: None, tmp_path: Path) -> Iterator[Start]:
    """Starts a dispatcher, and waits until it beats; `lease` in seconds."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(lease: float = 3, database_url: str | None = None) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"dispatcher-{len(started)}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.dispatcher"],
            cwd=ROOT,
            env=os.environ
            | {
                "LADING_DATABASE_URL": database_url or settings.database_url.get_secret_value(),
                "LADING_BROKER_URL": settings.broker_url.get_secret_value(),
                "LADING_LEASE_SECONDS": str(lease),
            },
            stderr=log,
        )
        started.append(process)
        log.close()
        if database_url is None:
            eventually(lambda: is_present(engine, process.pid), within=30)
        return process

    yield start_one
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def is_present(engine: Engine, pid: int) -> bool:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT FROM dispatcher WHERE pid = :pid"), {"pid": pid})
        return found.one_or_none() is not None


@contextmanager
def frozen(server: EmbeddedValkey) -> Iterator[None]:
    """Inside, the broker holds every connection and answers none."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)
