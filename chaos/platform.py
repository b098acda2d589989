"""The whole platform on servers of its own: every program a process that may be killed.

Servers are durable, as operators run them: what PostgreSQL has acknowledged survives its kill -9.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from chaos.effects import VARIABLE, Effects
from chaos.keeper import ROOT, Keeper
from chaos.waiting import NotInTime, until
from dev.ports import LOOPBACK, free_port, is_open
from dev.postgres import EmbeddedPostgres, remove_data
from dev.terminal import last_lines
from dev.valkey import EmbeddedValkey

READY_WITHIN = 120.0  # seconds; a busy machine forks slowly
LAST_WORDS = 20  # lines of a log
_LIVES = {
    "worker": "SELECT 1 FROM worker WHERE pid = %s",
    "dispatcher": "SELECT 1 FROM dispatcher WHERE pid = %s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What runs. Scenarios of one layout share a platform, one after the other."""

    apis: int = 2
    workers: int = 2  #: prefork
    slots: int = 2  #: of each
    io_workers: int = 1  #: threads
    io_slots: int = 20
    dispatchers: int = 1
    lease: float | None = 6.0  #: seconds; None: the default
    soft_shutdown: float | None = 3.0  #: likewise
    appendonly: bool = False  #: the broker's file


#: For crowds: of their own, since some of them are left when they are over.
PAIR = Layout(io_workers=0, dispatchers=2)


class Platform:
    """Usable as a context manager. Its keepers are listed by role."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.folder = Path(tempfile.mkdtemp(prefix="lading-chaos-"))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.effects = Effects(self.folder / "effects")
        self.postgres = EmbeddedPostgres(self.folder / "postgres", durable=True)
        self.valkey = EmbeddedValkey(self.folder / "valkey", durable=layout.appendonly)
        self.apis: list[Keeper] = []
        self.workers: list[Keeper] = []
        self.io_workers: list[Keeper] = []
        self.dispatchers: list[Keeper] = []
        self.urls: list[str] = []  #: of the apis
        self.key = ""
        self.secret = secrets.token_hex(32)  #: that webhooks' secrets are encrypted with
        self.known_faults: set[str] = set()  #: of the audit
        self.is_kept = False  #: whether the logs stay when it ends

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start(self) -> Self:
        self.postgres.start()
        self.valkey.start()
        self._run("alembic", "upgrade", "head")
        self.key = self._run("jobs.keys", "create", "--name", "chaos").strip()
        layout = self.layout
        for _ in range(layout.dispatchers):
            self.add_dispatcher()
        for _ in range(layout.workers):
            self.add_worker("prefork", layout.slots)
        for _ in range(layout.io_workers):
            self.add_worker("threads", layout.io_slots)
        for _ in range(layout.apis):
            self._add_api()
        self.heal()
        return self

    @property
    def keepers(self) -> list[Keeper]:
        """Of all processes but the servers."""
        return [*self.apis, *self.workers, *self.io_workers, *self.dispatchers]

    @property
    def environment(self) -> dict[str, str]:
        """Of every process."""
        chosen = {
            "LADING_DATABASE_URL": self.postgres.url,
            "LADING_BROKER_URL": self.valkey.url,
            "LADING_KINDS": "chaos.kinds",
            "LADING_FILES_DIR": str(self.folder / "files"),
            "LADING_SECRET_KEY": self.secret,
            "LADING_HTTP_ALLOW_NETWORKS": f"{LOOPBACK}/32",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            VARIABLE: str(self.effects.path),
        }
        if self.layout.lease is not None:
            chosen["LADING_LEASE_SECONDS"] = str(self.layout.lease)
        if self.layout.soft_shutdown is not None:
            chosen["LADING_SOFT_SHUTDOWN_SECONDS"] = str(self.layout.soft_shutdown)
        return chosen

    def add_worker(
        self,
        pool: str,
        slots: int,
        *,
        queue: str | None = None,
        start: Sequence[str] = ("-m", "celery"),
        environment: Mapping[str, str] | None = None,
    ) -> Keeper:
        """One more worker, not yet ready. `queue`: of its own, instead of the pool's.

        `start` is what Python runs in the place of Celery's command.
        """
        role = self.workers if pool == "prefork" else self.io_workers
        name = f"{pool}-{queue or 'usual'}-{len(role) + 1}"
        command = [sys.executable, *start, "-A", "worker.celery_app", "worker"]
        command += ["-P", pool, "-c", str(slots), "-n", f"{name}@%h"]
        command += ["-Q", queue] if queue else []
        keeper = self._keep(name, command, environment)
        role.append(keeper)
        return keeper

    def add_dispatcher(self) -> Keeper:
        """One more dispatcher, not yet ready."""
        name = f"dispatcher-{len(self.dispatchers) + 1}"
        keeper = self._keep(name, [sys.executable, "-m", "worker.dispatcher"])
        self.dispatchers.append(keeper)
        return keeper

    def drop(self, keeper: Keeper) -> None:
        """That worker or dispatcher has been stopped, and is none of ours any more."""
        keeper.stop()
        for role in (self.workers, self.io_workers, self.dispatchers):
            with suppress(ValueError):
                role.remove(keeper)

    def heal(self) -> None:
        """Everything runs and is ready; servers that were killed are started again."""
        for server in (self.postgres, self.valkey):
            if server.pid is None:
                server.start()
        for keeper in self.keepers:
            keeper.thaw()
        for keeper in self.keepers:
            self.await_ready(keeper)

    def await_ready(self, keeper: Keeper) -> None:
        """The keeper's process serves; NotInTime when it does not get that far."""
        try:
            until(lambda: self.is_ready(keeper), within=READY_WITHIN)
        except NotInTime:
            words = "\n".join(last_lines(keeper.log, LAST_WORDS))
            raise NotInTime(f"{keeper.name} does not get ready:\n{words}") from None

    def is_ready(self, keeper: Keeper) -> bool:
        """Whether the keeper's process serves now."""
        if not keeper.is_running:
            return False
        if keeper in self.apis:
            return is_open(int(self.urls[self.apis.index(keeper)].rpartition(":")[2]))
        table = "dispatcher" if keeper in self.dispatchers else "worker"
        try:
            return bool(self.query(_LIVES[table], keeper.pid))
        except psycopg.OperationalError:
            return False

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows, read in a connection of its own."""
        with psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(statement, values).fetchall()

    def stop(self) -> None:
        """Nothing of it runs any more, and nothing is left but logs that shall be kept."""
        for keeper in self.keepers:
            keeper.thaw()
        for keeper in self.keepers:
            keeper.begin_to_stop()
        for keeper in self.keepers:
            keeper.stop()
        self.valkey.stop()
        self.postgres.stop()
        remove_data(self.postgres.folder)
        if not self.is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _add_api(self) -> None:
        port = free_port()
        self.urls.append(f"http://{LOOPBACK}:{port}")
        command = [sys.executable, "-m", "uvicorn", "api.main:app", "--host", LOOPBACK]
        command += ["--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "3"]
        command += ["--ws-max-size", "2097152", "--ws-per-message-deflate", "false"]
        self.apis.append(self._keep(f"api-{len(self.urls)}", command))

    def _keep(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Keeper:
        chosen = self.environment | dict(environment or {})
        return Keeper(name, command, chosen, self.logs / f"{name}.log").start()

    def _run(self, module: str, *arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        return done.stdout
