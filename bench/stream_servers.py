"""What is measured by bench/streams.py: an API with its PostgreSQL and Valkey, or the floor."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from pydantic import SecretStr

from bench.stream_readers import Address
from bench.stream_writer import PROJECT
from dev.ports import LOOPBACK, free_port
from dev.postgres import temporary_postgres
from dev.valkey import temporary_valkey
from jobs.database import make_engine
from jobs.keys.store import create_key
from jobs.settings import Settings

ROOT = Path(__file__).parent.parent
SPARE_SOCKETS = 100


class Servers(NamedTuple):
    """What was started."""

    settings: Settings
    address: Address
    pids: Mapping[str, int]  #: by name


@contextmanager
def servers(sockets: int) -> Iterator[Servers]:
    """All of them, started, with a key for so many sockets."""
    with (
        temporary_postgres() as postgres,
        temporary_valkey() as valkey,
        tempfile.TemporaryDirectory(prefix="lading-bench-") as folder,
    ):
        names = {
            "LADING_DATABASE_URL": postgres.url,
            "LADING_BROKER_URL": valkey.url,
            "LADING_FILES_DIR": folder,
            "LADING_SOCKETS_PER_KEY": str(sockets + SPARE_SOCKETS),
        }
        environment = {**os.environ, **names}
        migrate = [sys.executable, "-m", "alembic", "upgrade", "head"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True, capture_output=True)  # noqa: S603
        settings = Settings(database_url=SecretStr(postgres.url), broker_url=SecretStr(valkey.url))
        port = free_port()
        with _program(_api(port), port, environment, Path(folder) / "api.log") as api:
            assert postgres.pid is not None
            assert valkey.pid is not None
            pids = {"api": api, "postgres": postgres.pid, "redis": valkey.pid}
            yield Servers(settings, Address(port, _key(settings)), pids)


def _api(port: int) -> list[str]:
    """As the image starts it."""
    command = ["uvicorn", "api.main:app", "--host", LOOPBACK, "--port", str(port)]
    command += ["--ws-max-size", "2097152", "--ws-per-message-deflate", "false"]
    return [*command, "--timeout-graceful-shutdown", "20"]


@contextmanager
def floor(running: Servers) -> Iterator[Servers]:
    """bench/stream_floor.py in the API's place."""
    redis = urlsplit(running.settings.broker_url.get_secret_value())
    port = free_port()
    command = ["bench.stream_floor", "--port", str(port), "--redis-port", str(redis.port)]
    with (
        tempfile.TemporaryDirectory(prefix="lading-bench-") as folder,
        _program(command, port, os.environ, Path(folder) / "floor.log") as pid,
    ):
        address = running.address._replace(port=port)
        yield running._replace(address=address, pids={**running.pids, "api": pid})


@contextmanager
def _program(
    module: Sequence[str], port: int, environment: Mapping[str, str], log: Path
) -> Iterator[int]:
    """The pid of the module's process, which answers at that port."""
    command = [sys.executable, "-m", *module]
    with log.open("wb") as lines:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, env=environment, stdout=lines, stderr=lines
        )
    try:
        _await_ready(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        try:
            with urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)


def _key(settings: Settings) -> str:
    engine = make_engine(settings, name="bench", size=1)
    with engine.begin() as connection:
        key: str = create_key(connection, PROJECT, "bench")[1]
    engine.dispose()
    return key
