"""Files: bytes first, row second, and the other way round at the end."""

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from jobs.errors import FileMissing
from jobs.files import FileStore, StoredBytes, delete_file, get_file, record_file


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files")


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_written_and_kept_lies_under_its_id(store: FileStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"one ")
        incoming.write(b"")
        incoming.write(b"two")
        stored = incoming.keep()
    assert stored.size == 7
    assert stored.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert kept(tmp_path) == [store.path_of(stored.id)]
    assert store.path_of(stored.id).read_bytes() == b"one two"


def test_what_is_not_kept_is_gone(store: FileStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"half")
        assert kept(tmp_path)
    assert kept(tmp_path) == []


def test_a_file_that_is_there_is_adopted(store: FileStore, tmp_path: Path) -> None:
    made = tmp_path / "made.csv"
    made.write_bytes(b"a,b\n1,2\n")
    stored = store.adopt(made)
    assert stored == StoredBytes(stored.id, 8, hashlib.sha256(b"a,b\n1,2\n").hexdigest())
    assert kept(tmp_path) == [store.path_of(stored.id)]


def test_bytes_are_removed_once_or_twice(store: FileStore, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.touch()
    stored = store.adopt(made)
    store.remove(stored.id)
    store.remove(stored.id)
    assert kept(tmp_path) == []


def test_rows_are_a_projects_own(connection: Connection) -> None:
    stored = StoredBytes(uuid4(), 3, "0" * 64)
    file = record_file(connection, "one", stored, name="a/../b", media_type="text/csv")
    assert (file.id, file.size, file.name, file.job_id) == (stored.id, 3, "a/../b", None)
    assert get_file(connection, "one", file.id) == file
    for refused in (get_file, delete_file):
        with pytest.raises(FileMissing):
            refused(connection, "two", file.id)
    delete_file(connection, "one", file.id)
    with pytest.raises(FileMissing):
        get_file(connection, "one", file.id)
