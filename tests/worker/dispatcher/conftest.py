"""Dispatchers as real processes, with a broker of their own that tests may kill, wipe and freeze.

One process serves a module, for it takes seconds to start; each test has a queue of its own. The
lease is three seconds, and intervals scale with it: a beat and a rescue each 0.5 s.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, func, text

from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs.broker import Broker
from jobs.database import autocommit
from jobs.errors import BrokerUnavailable
from jobs.hints import Hints
from jobs.settings import Settings
from jobs.states import JobState
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.jobs.making import make_job, read_job
from tests.jobs.ringing import add_worker

LEASE = 3.0  # seconds
LONG = 60.0  # seconds of lease: nothing is rescued while a slow machine thinks
FOR_AN_HOUR = text("clock_timestamp() + interval '1 hour'")


@dataclass
class Running:
    """A dispatcher and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def count(self, words: str) -> int:
        """How often it has said so."""
        return self.log.read_text().count(words)


Start = Callable[[], Running]


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[EmbeddedValkey]:
    with temporary_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def lease() -> float:
    return LEASE


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    own_valkey: EmbeddedValkey,
    lease: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        broker_url=SecretStr(own_valkey.url),
        files_dir=tmp_path_factory.mktemp("files"),
        lease_seconds=lease,
    )


@pytest.fixture(scope="module")
def dispatcher(
    settings: Settings, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The module's own, which beats."""
    with running(settings, engine, tmp_path_factory.mktemp("log")) as started:
        yield started


@pytest.fixture
def start(settings: Settings, engine: Engine, tmp_path: Path) -> Iterator[Start]:
    """Starts one more; it ends with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(settings, engine, tmp_path))


@pytest.fixture(params=[1, 2])
def dispatchers(request: pytest.FixtureRequest, dispatcher: Running, start: Start) -> list[Running]:
    """The module's alone, and with a second one beside it."""
    return [dispatcher, *(start() for _ in range(request.param - 1))]


@contextmanager
def running(settings: Settings, engine: Engine, folder: Path) -> Iterator[Running]:
    """A dispatcher that beats."""
    environment = {
        "LADING_DATABASE_URL": settings.database_url.get_secret_value(),
        "LADING_BROKER_URL": settings.broker_url.get_secret_value(),
        "LADING_LEASE_SECONDS": str(settings.lease_seconds),
    }
    path = folder / f"{uuid4()}.log"
    with path.open("ab") as log:
        command = [sys.executable, "-m", "worker.dispatcher"]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or is_present(engine, process), within=60)
        assert process.poll() is None, path.read_text()
        yield Running(process, path)
    finally:
        process.terminate()
        process.wait(30)


def is_present(engine: Engine, process: subprocess.Popen[bytes]) -> bool:
    with engine.connect() as connection:
        query = text("SELECT FROM dispatcher WHERE pid = :pid")
        return connection.execute(query, {"pid": process.pid}).one_or_none() is not None


@pytest.fixture
def bells(settings: Settings, own_valkey: EmbeddedValkey) -> Iterator[Broker]:
    """The broker, which answers."""
    if own_valkey.pid is None:
        own_valkey.start()
    broker = Broker(settings)
    yield broker
    broker.close()


@pytest.fixture
def hints(settings: Settings) -> Iterator[Hints]:
    hints = Hints(settings.broker_url.get_secret_value())
    yield hints
    hints.close()


@pytest.fixture
def eyes(engine: Engine) -> Iterator[Connection]:
    """A connection on which each statement is a transaction."""
    with autocommit(engine).connect() as connection:
        yield connection


@pytest.fixture
def queue(eyes: Connection) -> Iterator[str]:
    """The name of a queue that nobody serves yet; its jobs and workers go with the test."""
    name = f"test-{uuid4().hex[:8]}"
    yield name
    eyes.execute(text("DELETE FROM worker WHERE :queue = ANY (queues)"), {"queue": name})
    eyes.execute(text("DELETE FROM job WHERE queue = :queue"), {"queue": name})


@pytest.fixture
def served(eyes: Connection, queue: str) -> str:
    """A queue with a worker of two slots that seems to live for an hour."""
    add_worker(eyes, queues=[queue], seen_at=FOR_AN_HOUR)
    return queue


@contextmanager
def frozen(server: EmbeddedValkey) -> Iterator[None]:
    """Inside, the broker holds every connection and answers none."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def has_bells(bells: Broker, queue: str, number: int) -> bool:
    """Whether so many hang, in a broker that answers."""
    try:
        return bells.queue_length(queue) == number
    except BrokerUnavailable:
        return False


def has_state(connection: Connection, job_id: UUID, state: JobState) -> bool:
    return bool(read_job(connection, job_id).state is state)


def wait_until_it_rescues(connection: Connection, queue: str) -> None:
    """A dispatcher has swept for a lease."""
    gone = make_job(connection, JobState.RUNNING, queue=queue, lease_until=func.clock_timestamp())
    eventually(partial(has_state, connection, gone, JobState.QUEUED), within=60)
