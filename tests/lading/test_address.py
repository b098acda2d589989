"""Where a client looks for its server, and which key it sends there."""

import json
import os
from pathlib import Path

import pytest

from lading.client import NotConfigured
from lading.client.address import find_address

DEV = "http://127.0.0.1:8123"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder three levels deep, and an environment that says nothing."""
    for name in ("LADING_URL", "LADING_API_KEY", "LADING_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    deep = tmp_path / "project/src/deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "project"


def record(folder: Path, url: str = DEV, key: str = "dev-key") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "dev.json").write_text(json.dumps({"api": url, "key": key, "more": 1}))


def test_what_make_dev_wrote_is_found_in_a_folder_above(somewhere: Path) -> None:
    record(somewhere / ".lading")
    assert find_address() == (DEV, "dev-key")


def test_the_nearest_one_counts_and_a_broken_one_does_not(somewhere: Path) -> None:
    record(somewhere / ".lading")
    record(somewhere / "src/.lading", "http://127.0.0.1:8124", "nearer")
    assert find_address() == ("http://127.0.0.1:8124", "nearer")
    (somewhere / "src/.lading/dev.json").write_text('{"api": ')
    assert find_address() == (DEV, "dev-key")


def test_its_folder_may_be_named(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(somewhere / "data")
    monkeypatch.setenv("LADING_DATA_DIR", str(somewhere / "data"))
    assert find_address() == (DEV, "dev-key")


def test_the_environment_goes_before_it_and_the_call_before_both(
    somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(somewhere / ".lading")
    monkeypatch.setenv("LADING_URL", "https://lading.example/")
    monkeypatch.setenv("LADING_API_KEY", "theirs\n")
    assert find_address() == ("https://lading.example", "theirs")
    assert find_address("http://other.example/prefix/", "mine") == (
        "http://other.example/prefix",
        "mine",
    )


def test_its_key_is_sent_to_no_other_server(
    somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(somewhere / ".lading")
    assert find_address("https://lading.example") == ("https://lading.example", None)
    assert find_address(f"{DEV}/") == (DEV, "dev-key")
    monkeypatch.setenv("LADING_API_KEY", "mine")
    assert find_address() == (DEV, "mine")


def test_somebody_elses_record_is_not_believed(
    somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(somewhere / ".lading")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    owner = (somewhere / ".lading/dev.json").stat().st_uid
    if owner == 0:
        os.chown(somewhere / ".lading/dev.json", 54321, -1)
    with pytest.raises(NotConfigured, match="LADING_URL"):
        find_address()


@pytest.mark.parametrize("url", ["lading.example", "ftp://lading.example", "http://"])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="HTTP"):
        find_address(url)
