"""Files: the bytes in a folder under their id, what is known of them in a row.

A row is written only once its bytes are on the disk, and bytes are removed only after their row; so
a row without bytes does not exist, and bytes without a row are rubbish of a crash. Names are told
to people and never used as paths.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.errors import FileMissing
from jobs.ids import uuid7
from jobs.models import File

CHUNK = 1024 * 1024  # bytes that are hashed at a time
_INCOMING = "incoming"


class FileView(NamedTuple):
    """A file as readers see it."""

    id: UUID
    name: str
    size: int
    sha256: str
    media_type: str
    job_id: UUID | None
    created_at: datetime


class StoredBytes(NamedTuple):
    """Bytes that are safe on the disk and wait for their row."""

    id: UUID
    size: int
    sha256: str


class FileStore:
    """The folder. Several processes may use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, file_id: UUID) -> Path:
        """Where the bytes of a file lie, if there is one."""
        return self._folder / file_id.hex[-2:] / str(file_id)

    @contextmanager
    def receive(self) -> Iterator["Incoming"]:
        """Bytes may be written; what has not been kept at the end is gone."""
        file_id = uuid7()
        path = self._folder / _INCOMING / str(file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = Incoming(self, file_id, path)
        try:
            yield incoming
        finally:
            incoming.close()
            path.unlink(missing_ok=True)

    def forget_incoming(self, age: timedelta) -> int:
        """Bytes that nobody has written to for so long, left by a crash, are gone; how many."""
        before = time.time() - age.total_seconds()
        found = [*(self._folder / _INCOMING).glob("*")]
        old = [path for path in found if path.exists() and path.stat().st_mtime < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def adopt(self, path: Path) -> StoredBytes:
        """The bytes at `path` are the store's; the path may be gone. Writers of it have closed."""
        file_id = uuid7()
        with self._in_place(file_id) as target:
            shutil.move(path, target)
            with target.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
        return StoredBytes(file_id, size, digest)

    def remove(self, file_id: UUID) -> None:
        """There are no bytes of that id."""
        self.path_of(file_id).unlink(missing_ok=True)

    @contextmanager
    def _in_place(self, file_id: UUID) -> Iterator[Path]:
        """Inside, put the bytes there; after it their name is on the disk, too."""
        target = self.path_of(file_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target
        for folder in (target.parent, self._folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class Incoming:
    """A file that is being written. Not for two threads at a time."""

    def __init__(self, store: FileStore, file_id: UUID, path: Path) -> None:
        self._store, self._id, self._path = store, file_id, path
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """These bytes come next."""
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(data)

    def keep(self) -> StoredBytes:
        """The bytes are safe on the disk, under their id."""
        os.fsync(self._file.fileno())
        self.close()
        with self._store._in_place(self._id) as target:  # noqa: SLF001 - its other half
            self._path.rename(target)
        return StoredBytes(self._id, self.size, self._hash.hexdigest())

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()


_SHOWN = [col(getattr(File, name)) for name in FileView._fields]


def record_file(
    connection: Connection,
    project_id: str,
    stored: StoredBytes,
    *,
    name: str,
    media_type: str,
    job_id: UUID | None = None,
) -> FileView:
    """The stored bytes are a file of the project; `job_id` made it."""
    row = {**stored._asdict(), "project_id": project_id, "name": name, "media_type": media_type}
    statement = sa.insert(File).values(**row, job_id=job_id).returning(*_SHOWN)
    return FileView._make(connection.execute(statement).one())


def get_file(connection: Connection, project_id: str, file_id: UUID) -> FileView:
    """The project's file. FileMissing."""
    row = connection.execute(sa.select(*_SHOWN).where(*_which(project_id, file_id))).one_or_none()
    if row is None:
        raise FileMissing(file_id)
    return FileView._make(row)


def delete_file(connection: Connection, project_id: str, file_id: UUID) -> None:
    """The project has no such file any more; remove its bytes after the commit. FileMissing."""
    if not connection.execute(sa.delete(File).where(*_which(project_id, file_id))).rowcount:
        raise FileMissing(file_id)


def _which(project_id: str, file_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return col(File.id) == file_id, col(File.project_id) == project_id
