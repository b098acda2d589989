"""Nodes for pytest-celery that are plain processes: no Docker engine needed.

A CeleryTestNode speaks with its `container` through a small surface, which ProcessNode gives for a
process and ValkeyNode for the tests' own broker.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import celery
import psutil
from pytest_celery import CeleryTestBroker, CeleryTestWorker

from dev.valkey import EmbeddedValkey
from jobs.settings import Settings
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
READY_WITHIN = 120  # seconds; a busy machine forks slowly


class ProcessNode:
    """What pytest-celery expects of a container, for a local process."""

    ready_prompt = ""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        self.name, self.command, self.env = name, command, env
        self.log = Path(tempfile.mkdtemp(prefix=f"lading-test-{name}-")) / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.env},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def id(self) -> str:
        return socket.gethostname()

    @property
    def status(self) -> str:
        return "running" if self.process.poll() is None else "exited"

    def logs(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self) -> bool:
        def says_so() -> bool:
            if self.status != "running":
                raise RuntimeError(f"{self.name} has ended: {self.logs()[-4000:]}")
            return self.ready_prompt in self.logs()

        return eventually(says_so, within=READY_WITHIN, every=0.05)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """As Docker does: SIGKILL takes the whole tree, any other signal is for the parent."""
        number = _number(signal)
        if number == _number("SIGKILL"):
            os.killpg(self.process.pid, number)
            self.process.wait()
        else:
            self.process.send_signal(number)

    def restart(self, timeout: float = 10) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
            self.process.wait(timeout)
        self.log.write_text("")
        self.start()
        self.ready()

    def reload(self) -> None:
        """A container would look up its state here."""

    def teardown(self) -> None:
        if self.status == "running":
            self.kill()
        shutil.rmtree(self.log.parent)


class WorkerNode(ProcessNode):
    """A worker as make dev and compose start it."""

    ready_prompt = "worker ready"

    def __init__(self, settings: Settings, pool: str, *, slots: int = 2) -> None:
        self.pool = pool
        command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"]
        command += ["-P", pool, "-c", str(slots), "-n", f"{pool}@%h"]
        super().__init__(f"worker-{pool}", command, environment(settings))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def children(self) -> list[int]:
        """The pids of the pool's processes."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def version(self) -> str:
        return str(celery.__version__)

    def log_level(self) -> str:
        return "INFO"

    def worker_name(self) -> str:
        return self.pool

    def worker_queue(self) -> str:
        return "io" if self.pool == "threads" else "default"


class ValkeyNode:
    """The tests' broker, which others use as well: it cannot be killed through this."""

    name, status = "valkey", "running"

    def __init__(self, valkey: EmbeddedValkey) -> None:
        self._valkey = valkey

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = self._valkey.url
        return {"url": url, "host_url": url, "hostname": "127.0.0.1", "port": self._valkey.port}

    def ready(self) -> bool:
        return self._valkey.is_ready()


class Broker(CeleryTestBroker):  # type: ignore[misc] # pytest-celery has no types
    pass


class Worker(CeleryTestWorker):  # type: ignore[misc] # pytest-celery has no types
    container: WorkerNode

    def hostname(self) -> str:
        return f"{self.worker_name}@{socket.gethostname()}"


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables."""
    secret_key = settings.secret_key
    return {
        "LADING_SECRET_KEY": "" if secret_key is None else secret_key.get_secret_value(),
        "LADING_HTTP_ALLOW_NETWORKS": ",".join(map(str, settings.http_allow_networks)),
        "LADING_DATABASE_URL": settings.database_url.get_secret_value(),
        "LADING_BROKER_URL": settings.broker_url.get_secret_value(),
        "LADING_KINDS": ",".join(settings.kinds),
        "LADING_FILES_DIR": str(settings.files_dir),
        "LADING_LEASE_SECONDS": str(settings.lease_seconds),
        "LADING_CANCEL_GRACE_SECONDS": str(settings.cancel_grace_seconds),
        "LADING_SOFT_SHUTDOWN_SECONDS": str(settings.soft_shutdown_seconds),
    }


def _number(name: str | int) -> int:
    return int(getattr(signal, name)) if isinstance(name, str) else name
