"""The Procfile: what runs under `make dev`, in which environment, and when it counts as ready."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

from dev.kept import DataDirectory
from dev.options import Options
from dev.ports import LOOPBACK, free_port
from dev.postgres import EmbeddedPostgres
from dev.programs import Program, embedded
from dev.readiness import answers, beats, listens
from dev.valkey import EmbeddedValkey

ROOT = Path(__file__).parent.parent
# Of a WebSocket frame that comes in. The protocol's own limit is 64 KiB: a frame beyond that is
# closed with 4400 by the API; one beyond this is not even read, and closed with 1009.
MAX_FRAME_BYTES = 2 * 1024 * 1024
API_GRACE = 3  # seconds for open requests and streams at the end
SOFT_SHUTDOWN = 4  # seconds for running attempts at the end; a deploy gives them 25

SERVERS = ("postgres", "redis")  #: stopped last: who ends still writes to them
PIDS = ("api", "worker", "worker_io", "dispatcher", "flower", "mail", *SERVERS)  #: of dev.json


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, in the order of the start."""

    servers: list[Program]  #: those that are ours
    applications: list[Program]
    migration: Sequence[str]  #: the command between the two
    environment: Mapping[str, str]  #: of the migration, on top of the supervisor's own
    find_key: Callable[[], str]  #: an API key that the database knows; asked after the migration
    database_url: str
    broker_url: str
    flower_auth: str


def make_plan(options: Options, directory: DataDirectory, outer: Mapping[str, str]) -> Plan:
    """The table for these options. `outer` is the supervisor's own environment."""
    servers = []
    database_url, broker_url = options.database_url, options.broker_url
    if database_url is None:
        folder = directory.path / "postgres"
        folder.mkdir(parents=True, exist_ok=True)
        password = directory.secret("postgres/password")
        postgres = EmbeddedPostgres(folder, free_port(), durable=True, password=password)
        database_url = postgres.url
        servers.append(embedded("postgres", postgres))
    if broker_url is None:
        folder = directory.path / "valkey"
        folder.mkdir(parents=True, exist_ok=True)
        password = directory.secret("valkey/password")
        valkey = EmbeddedValkey(folder, free_port(), durable=True, password=password)
        broker_url = valkey.url
        servers.append(embedded("redis", valkey))
    environment = _environment(options, outer) | {
        "LADING_DATABASE_URL": database_url,
        "LADING_BROKER_URL": broker_url,
    }
    if not outer.get("LADING_SECRET_KEY"):
        environment["LADING_SECRET_KEY"] = directory.secret("secret-key")
    flower_auth = f"lading:{directory.secret('flower-password')}"
    return Plan(
        servers,
        [
            _api(options, environment),
            *_workers(options, environment, database_url),
            _flower(options, environment | {"FLOWER_BASIC_AUTH": flower_auth}),
            _mail(options, environment),
        ],
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"],
        environment,
        partial(directory.api_key, environment),
        database_url,
        broker_url,
        flower_auth,
    )


def _environment(options: Options, outer: Mapping[str, str]) -> dict[str, str]:
    """What is set for the children. A mail server or folder that the person has named stays."""
    chosen = {
        "LADING_DATA_DIR": str(options.data_dir),
        "LADING_FLOWER_URL": options.url_of(options.flower_port),
        "LADING_SOFT_SHUTDOWN_SECONDS": str(SOFT_SHUTDOWN),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path.cwd()), str(ROOT), outer.get("PYTHONPATH")])
        ),
        "PYTHONUNBUFFERED": "1",
    }
    if not outer.get("LADING_FILES_DIR"):
        chosen["LADING_FILES_DIR"] = str(options.data_dir / "files")
    if not outer.get("LADING_SMTP_HOST"):
        chosen |= {"LADING_SMTP_HOST": LOOPBACK, "LADING_SMTP_PORT": str(options.smtp_port)}
    return chosen


def _api(options: Options, environment: Mapping[str, str]) -> Program:
    command = [sys.executable, "-m", "uvicorn", "api.main:app"]
    command += ["--host", options.host, "--port", str(options.port)]
    command += ["--ws-max-size", str(MAX_FRAME_BYTES), "--ws-per-message-deflate", "false"]
    command += ["--timeout-graceful-shutdown", str(API_GRACE)]
    return Program(
        name="api",
        command=partial(list, command),
        is_ready=answers(f"{options.url_of(options.port)}/readyz"),
        poll_seconds=0.2,  # each question is a line in its log
        environment=environment,
        shown=True,
        reloads=True,
    )


def _workers(options: Options, environment: Mapping[str, str], database_url: str) -> list[Program]:
    celery = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"]
    commands = {
        "worker": [*celery, "-P", "prefork", "-c", str(options.worker_concurrency)],
        "worker_io": [*celery, "-P", "threads", "-c", str(options.worker_io_concurrency)],
        "dispatcher": [sys.executable, "-m", "worker.dispatcher"],
    }
    for name in ("worker", "worker_io"):
        commands[name] += ["-n", f"{name}@%h"]
    return [
        Program(
            name=name,
            command=partial(list, command),
            is_ready=beats(name, database_url),
            poll_seconds=0.3,  # each question is a new connection
            environment=environment,
            shown=name != "dispatcher",
            reloads=True,
        )
        for name, command in commands.items()
    ]


def _flower(options: Options, environment: Mapping[str, str]) -> Program:
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower"]
    command += [f"--conf={ROOT / 'worker' / 'flowerconfig.py'}"]
    command += [f"--address={options.host}", f"--port={options.flower_port}"]
    url = options.url_of(options.flower_port)
    return Program(
        name="flower",
        command=partial(list, command),
        is_ready=answers(url, HTTPStatus.OK, HTTPStatus.UNAUTHORIZED),
        environment=environment,
    )


def _mail(options: Options, environment: Mapping[str, str]) -> Program:
    command = [sys.executable, "-m", "dev.mail", "--dir", str(options.data_dir / "mail")]
    command += ["--smtp-port", str(options.smtp_port), "--http-port", str(options.mail_port)]
    return Program(
        name="mail",
        command=partial(list, command),
        is_ready=listens(options.smtp_port, options.mail_port),
        environment=environment,
    )
