import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.ports import is_open
from dev.postgres import remove_data
from dev.table import PIDS
from tests.dev.running import Running, running
from tests.eventually import eventually

TOY = "tests.dev.toy_dev"
RELOADED = {"api", "worker", "worker_io", "dispatcher"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Root's PostgreSQL keeps its data elsewhere when it cannot reach pytest's folder."""
    yield tmp_path / "data"
    remove_data(tmp_path / "data" / "postgres")


def rows(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def serves(url: str) -> bool:
    try:
        with psycopg.connect(url):
            return True
    except psycopg.OperationalError:
        return False


def changed(after: dict[str, Any], before: dict[str, Any]) -> set[str]:
    return {name for name, pid in after["pids"].items() if pid != before["pids"][name]}


def test_all_runs_is_recorded_and_goes_at_ctrl_c(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        record = toy.record()
        assert set(record["pids"]) == {"supervisor", *PIDS}
        assert record["pids"]["supervisor"] == toy.process.pid
        assert len(toy.seen) == 9
        assert toy.left_over() == toy.seen
        eventually(lambda: "Lading is ready" in toy.output)
        assert toy.end(signal.SIGINT) == 0
        assert toy.left_over() == set()
        assert not toy.record_path.exists()


def test_the_next_start_goes_on_with_the_same_data(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        first = toy.record()
        rows(first["database_url"], "CREATE TABLE kept AS SELECT 1")
        assert toy.end(signal.SIGTERM) == 0
    with running(data_dir, TOY) as toy:
        second = toy.record()
        assert rows(second["database_url"], "SELECT * FROM kept") == [(1,)]
        assert second["flower_auth"] == first["flower_auth"]


def test_programs_end_while_the_database_still_serves(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        toy.record()
        assert toy.end(signal.SIGTERM) == 0
    written = {path.name.removeprefix("stopped-") for path in data_dir.glob("stopped-*")}
    assert written == {"api", "dispatcher", "flower", "worker", "worker_io"}


def test_what_is_killed_comes_back_on_the_same_port(data_dir: Path) -> None:
    killed = {"api", "postgres", "redis", "mail"}
    with running(data_dir, TOY) as toy:
        before = toy.record()
        for name in killed:
            os.kill(before["pids"][name], signal.SIGKILL)
        eventually(lambda: changed(toy.record(), before) == killed)
        after = toy.record()
        assert after | {"pids": 0} == before | {"pids": 0}
        smtp = int(before["smtp"].partition(":")[2])
        eventually(lambda: is_open(smtp))
        eventually(lambda: serves(before["database_url"]))
        for name in killed:  # which is printed by a thread, a moment later
            words = f"{name} was killed by SIGKILL and was started again"
            eventually(lambda w=words: w in toy.output)  # type: ignore[misc]
        assert toy.end() == 0
        assert toy.left_over() == set()


def test_a_changed_source_reloads_what_runs_it(data_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "my_kinds.py"
    source.touch()
    environment = {"LADING_RELOAD": "1", "LADING_KINDS": "my_kinds", "PYTHONPATH": str(tmp_path)}
    with running(data_dir, TOY, environment) as toy:
        before = toy.record()

        def reloaded() -> set[str]:
            source.write_text(f"# {time.monotonic_ns()}\n")  # the watcher takes a moment to begin
            return changed(toy.record(), before)

        assert eventually(reloaded, every=0.5)
        eventually(lambda: changed(toy.record(), before) == RELOADED)
        assert f"{source} has changed: reloading" in toy.output
        assert toy.end() == 0


def test_a_program_that_does_not_stay_up_ends_it_all_with_its_last_lines(data_dir: Path) -> None:
    with running(data_dir, TOY, {"TOY_DIES": "1"}) as toy:
        assert toy.process.wait(60) == 1
        assert "has died 5 times within 60 seconds" in toy.output
        assert "this toy is broken" in toy.output
        assert not toy.record_path.exists()
        assert "Lading is ready" not in toy.output


def test_a_migration_that_fails_ends_it_all_with_its_words(data_dir: Path) -> None:
    with running(data_dir, TOY, {"TOY_MIGRATION": "raise SystemExit('no such revision')"}) as toy:
        assert toy.process.wait(60) == 1
        assert "The migration has failed" in toy.output
        assert "no such revision" in toy.output


def test_a_second_start_on_the_same_data_is_told_in_one_line(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        toy.record()
        with running(data_dir, TOY) as second:
            assert second.process.wait(30) == 1
            assert second.output.count("\n") == 1
            assert f"already runs on {data_dir} (process {toy.process.pid})" in second.output
        assert toy.left_over() == toy.seen
        assert toy.record_path.exists()


def test_a_busy_explicit_port_is_told_in_one_line(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with running(data_dir, TOY, {"LADING_PORT": str(port)}) as toy:
            assert toy.process.wait(30) == 1
            assert toy.output.startswith(f"LADING_PORT={port} is taken")
            assert toy.output.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_nothing_outlives_a_killed_supervisor_and_the_next_start_goes_on(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        rows(toy.record()["database_url"], "CREATE TABLE kept AS SELECT 1")
        toy.process.kill()
        toy.process.wait()
        eventually(lambda: toy.left_over() == set())
    with running(data_dir, TOY) as toy:
        assert rows(toy.record()["database_url"], "SELECT * FROM kept") == [(1,)]


def test_a_start_right_after_a_kill_waits_for_what_is_left(data_dir: Path) -> None:
    with running(data_dir, TOY) as toy:
        toy.record()
        toy.process.kill()
        toy.process.wait()
        with running(data_dir, TOY) as next_one:
            assert next_one.pid("supervisor") == next_one.process.pid
            assert toy.left_over() == set()


def test_servers_that_are_not_ours_are_neither_started_nor_stopped(data_dir: Path) -> None:
    with running(data_dir, TOY) as first:
        theirs = first.record()
        urls = {
            "LADING_DATABASE_URL": theirs["database_url"],
            "LADING_BROKER_URL": theirs["broker_url"],
        }
        with running(data_dir.with_name("other"), TOY, urls) as second:
            ours = second.record()
            assert (ours["pids"]["postgres"], ours["pids"]["redis"]) == (None, None)
            assert ours["database_url"] == theirs["database_url"]
            assert second.end() == 0
        assert first.left_over() == first.seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_when_make_is_told_to_end(
    data_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f".PHONY: dev\ndev:\n\t@{sys.executable} -m {TOY}\n")
    toy = Running(data_dir, ["make", "--no-print-directory", "-f", str(makefile), "dev"], {})
    try:
        supervisor = toy.record()["pids"]["supervisor"]
        assert supervisor != toy.process.pid
        toy.process.send_signal(number)
        assert toy.process.wait(30) == -number
        eventually(lambda: toy.left_over() == set())
        assert not toy.record_path.exists()
    finally:
        toy.process.kill()


def test_a_closed_output_ends_nothing(data_dir: Path) -> None:
    toy = Running(data_dir, ["sh", "-c", f"{sys.executable} -m {TOY} | head -n 1"], {})
    try:
        pid = toy.pid("api")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: toy.pid("api") != pid)
        os.kill(toy.pid("supervisor"), signal.SIGINT)
        assert toy.process.wait(30) == 0
        assert toy.output.count("\n") == 1
        assert toy.left_over() == set()
    finally:
        toy.process.kill()
