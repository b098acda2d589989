import json
import os
from pathlib import Path
from threading import Thread

import pytest

from dev.errors import DevError
from dev.kept import DataDirectory
from dev.record import Record
from dev.table import PIDS

RECORD = Record(
    api="http://127.0.0.1:8000",
    flower="http://127.0.0.1:15555",
    flower_auth="lading:secret",
    mail="http://127.0.0.1:8025",
    key="k",
    database_url="postgresql://lading@127.0.0.1:5432/lading",
    broker_url="redis://127.0.0.1:6379/0",
    smtp="127.0.0.1:1025",
    pids={"supervisor": 1} | dict.fromkeys(PIDS, 2) | {"postgres": None},
)


def test_the_banner_is_the_contracts() -> None:
    assert RECORD.banner().splitlines() == [
        "Lading is ready",
        "  API      http://127.0.0.1:8000       (docs at /docs)",
        "  Flower   http://127.0.0.1:15555      (user and password: lading:secret)",
        "  Mail     http://127.0.0.1:8025",
        "  Key      k",
    ]


def test_the_record_has_the_contracts_keys_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    RECORD.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads(path.read_text())
    assert list(written) == [
        *("api", "flower", "flower_auth", "mail", "key", "database_url", "broker_url", "smtp"),
        "pids",
    ]
    assert set(written["pids"]) == {
        *("supervisor", "api", "worker", "worker_io", "dispatcher", "flower", "mail"),
        *("postgres", "redis"),
    }
    assert written["pids"]["postgres"] is None
    assert list(tmp_path.iterdir()) == [path]


def write_often(path: Path) -> None:
    for _ in range(100):
        RECORD.write(path)


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    RECORD.write(path)
    writer = Thread(target=write_often, args=[path])
    writer.start()
    read = 0
    while writer.is_alive():
        assert json.loads(path.read_text())["smtp"] == RECORD.smtp
        read += 1
    writer.join()
    assert read > 10


def test_a_second_claim_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    lock = DataDirectory(tmp_path).claim()
    try:
        with pytest.raises(DevError, match=f"already runs on {tmp_path} .process {os.getpid()}"):
            DataDirectory(tmp_path).claim()
    finally:
        os.close(lock)
    os.close(DataDirectory(tmp_path).claim())


def test_a_claim_removes_the_record_of_a_run_that_was_killed(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "dev.json")
    os.close(DataDirectory(tmp_path).claim())
    assert not (tmp_path / "dev.json").exists()


def test_a_secret_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    secret = DataDirectory(tmp_path).secret("flower-password")
    assert len(secret) == 32
    assert DataDirectory(tmp_path).secret("flower-password") == secret
    assert (tmp_path / "flower-password").stat().st_mode & 0o777 == 0o600


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    os.close(directory.claim())
    directory.log("api").write_text("first")
    assert directory.log("api").read_text() == ""
    assert (tmp_path / "logs" / "api.log.1").read_text() == "first"
