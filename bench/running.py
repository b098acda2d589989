"""A peer that runs: API, workers and what belongs to them, on an empty database."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from bench import generator
from bench.generator import Order
from bench.http import Address
from bench.job.benched import VARIABLE
from bench.peer import Members, Peer, Rows
from bench.programs import Started, run
from bench.servers import Servers
from dev.ports import free_port, is_open
from jobs.database import make_engine
from jobs.keys.store import create_key
from jobs.settings import Settings

LISTENS_WITHIN = 60.0  # seconds
FIRST_WITHIN = 60.0  # seconds until the first job has started
SLOWEST = 20.0  # jobs a second; who makes fewer has failed
POLL = 0.05  # seconds
PROCESS_TASKS = 100  # jobs that an event loop takes at once
# Of one API process, of all of them alike. `--no-access-log`: who wants one has it at the proxy.
UVICORN = "uvicorn {app} --host 127.0.0.1 --port {port} --log-level warning --no-access-log"


@dataclass(slots=True)
class Running:
    """What the phases work with."""

    peer: Peer
    servers: Servers
    load: ProcessPoolExecutor
    folder: Path  #: of logs
    port: int = 0
    key: str = ""
    submitted: int = 0  #: jobs so far
    settle: float = 0.0  #: seconds between phases
    services: dict[str, Started] = field(default_factory=dict)  #: API and dispatcher
    workers: list[Started] = field(default_factory=list)

    @property
    def marks(self) -> str:
        """Where jobs say that they have started."""
        return str(self.servers.folder / "marks")

    @property
    def groups(self) -> dict[str, list[int]]:
        """The heads of all its families, the servers' too."""
        found = {name: [each.pid] for name, each in self.services.items()}
        if self.workers:
            found["worker"] = [each.pid for each in self.workers]
        return found | self.servers.pids

    def environment(self, concurrency: int = PROCESS_TASKS) -> dict[str, str]:
        """Of every process."""
        urls = {"postgres": self.servers.database_url, "redis": self.servers.redis_url}
        mine = {
            "BENCH_POSTGRES": urls["postgres"],
            "BENCH_REDIS": urls["redis"],
            "BENCH_CONCURRENCY": str(concurrency),
            VARIABLE: self.marks,
            "PGDSN": urls["postgres"],  # of PgQueuer's commands
            "PYTHONPATH": self.peer.pythonpath(),
            "LADING_DATABASE_URL": urls["postgres"],
            "LADING_BROKER_URL": f"{urls['redis']}/0",
            "LADING_FILES_DIR": str(self.servers.folder / "files"),
        }
        return mine | {name: text.format(**urls) for name, text in self.peer.environment.items()}

    def order(self, *, waits: float = 0) -> Order:
        """How its jobs are asked for; `waits`: seconds that each of them sleeps."""
        work = {"token": "{token}", "seconds": waits}
        kind = self.peer.io_kind if waits else self.peer.kind
        body = work if kind is None else {"kind": kind, "args": work}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        address = Address(self.port, headers)
        return Order(address, self.peer.path, json.dumps(body, separators=(",", ":")).encode())

    def start_workers(self, *, for_io: bool = False) -> None:
        """They have been started, which does not mean that they are ready."""
        commands = self.peer.io_workers if for_io else self.peer.workers
        concurrency = self.peer.io_slots if for_io else PROCESS_TASKS
        for number, command in enumerate(commands):
            log = self.folder / f"worker-{number}.log"
            self.workers.append(Started(self.peer, command, self.environment(concurrency), log))

    def stop_workers(self) -> None:
        """None of them runs."""
        for each in self.workers:
            each.begin_to_stop()
        while self.workers:
            self.workers.pop().stop()

    def unfinished(self) -> int:
        """Jobs that are not final, of all that have been submitted."""
        match self.peer.left:
            case Rows(query):
                return int(self.servers.query(query))
            case Members(key):
                with self.servers.connect_redis() as client:
                    return int(client.zcard(key))
            case results:
                with self.servers.connect_redis(results.database) as client:
                    return self.submitted - int(client.dbsize())

    def await_all(self, ids: Sequence[str]) -> float:
        """When all were final (seconds, monotonic). TimeoutError, ChildProcessError.

        The youngest is asked for over HTTP, then all are counted: this costs the peers nearly
        nothing, however many there are.
        """
        self.submitted += len(ids)
        within = FIRST_WITHIN + len(ids) / SLOWEST
        end = time.monotonic() + within
        found = self.load.submit(
            generator.await_final, self.order(), ids[-1], self.peer.final, within
        )
        while not found.done():
            self.check()
            time.sleep(POLL)
        at = found.result()
        while self.unfinished() > 0:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.unfinished()} jobs of {self.peer.name} are not final")
            self.check()
            time.sleep(POLL)
            at = time.monotonic()
        return at

    def check(self) -> None:
        """ChildProcessError when one of its processes has ended."""
        for each in (*self.services.values(), *self.workers):
            each.check()


@contextmanager
def running(
    peer: Peer, servers: Servers, load: ProcessPoolExecutor, folder: Path
) -> Iterator[Running]:
    """It has made its first job; nothing of it runs afterwards."""
    servers.clear()
    folder.mkdir(parents=True, exist_ok=True)
    found = Running(peer, servers, load, folder)
    try:
        _start(found)
        yield found
    finally:
        found.stop_workers()
        for each in found.services.values():
            each.stop()


def _start(found: Running) -> None:
    peer, environment = found.peer, found.environment()
    if peer.prepare:
        run(peer, peer.prepare, environment)
    if peer.is_ours:
        found.key = _make_key(found.servers)
    found.port = free_port()
    commands = {"api": UVICORN.format(app=peer.api, port=found.port) + peer.api_options}
    if peer.dispatcher:
        commands["dispatcher"] = peer.dispatcher
    for name, command in commands.items():
        found.services[name] = Started(peer, command, environment, found.folder / f"{name}.log")
    found.start_workers()
    end = time.monotonic() + LISTENS_WITHIN
    while not is_open(found.port):
        found.check()
        if time.monotonic() > end:
            raise TimeoutError(f"the API of {peer.name} does not listen")
        time.sleep(POLL)
    made = found.load.submit(generator.submit, found.order(), 1, 1).result()
    found.await_all(made.ids)


def _make_key(servers: Servers) -> str:
    database, broker = SecretStr(servers.database_url), SecretStr(servers.redis_url)
    engine = make_engine(Settings(database_url=database, broker_url=broker), name="bench", size=1)
    with engine.begin() as connection:
        key: str = create_key(connection, "default", "bench")[1]
    engine.dispose()
    return key
