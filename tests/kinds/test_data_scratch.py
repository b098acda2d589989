import errno
import os
from pathlib import Path

import pytest

from kinds.data_scratch import NEWBORN, PREFIX, scratch_folder


def _made(place: Path, name: str, *, age: float) -> Path:
    """A folder with a file in it, as a process that was killed left it `age` seconds ago."""
    folder = place / f"{PREFIX}{name}"
    folder.mkdir()
    (folder / "input").write_text("1\n")
    then = folder.stat().st_mtime - age
    os.utime(folder, (then, then))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_a_scratch_folder_lasts_as_long_as_it_is_used(place: Path) -> None:
    with scratch_folder() as folder:
        (folder / "spill").mkdir()
        assert folder.parent == place
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(place: Path) -> None:
    left = _made(place, "left", age=NEWBORN + 1)
    with scratch_folder() as folder:
        assert list(place.iterdir()) == [folder]
    assert not left.exists()


def test_a_folder_in_use_is_left_alone_however_old(place: Path) -> None:
    with scratch_folder() as used:
        os.utime(used, (0, 0))
        with scratch_folder() as folder:
            assert set(place.iterdir()) == {used, folder}


def test_a_folder_that_has_no_lock_yet_is_left_alone(place: Path) -> None:
    newborn = _made(place, "newborn", age=0)
    with scratch_folder():
        assert newborn.exists()


def test_where_folders_cannot_be_locked_there_are_some_nevertheless(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where only files that are open for writing can be."""

    def refuse(*_: int) -> None:
        raise OSError(errno.EBADF, "not open for writing")

    left = _made(place, "left", age=NEWBORN + 1)
    monkeypatch.setattr("fcntl.flock", refuse)
    with scratch_folder() as folder:
        assert set(place.iterdir()) == {left, folder}
    assert list(place.iterdir()) == [left]


def test_a_link_is_not_followed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = _made(tmp_path_factory.mktemp("elsewhere"), "precious", age=NEWBORN + 1)
    (place / f"{PREFIX}link").symlink_to(elsewhere, target_is_directory=True)
    with scratch_folder():
        assert (elsewhere / "input").exists()
