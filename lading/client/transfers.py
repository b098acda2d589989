"""Files on this machine: what is sent, and where what is fetched goes."""

import hashlib
import mimetypes
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

_UNKNOWN_TYPE = "application/octet-stream"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent: its bytes, or where they are."""

    source: Path | bytes
    name: str
    media_type: str

    @classmethod
    def of(cls, source: Path | str | bytes, name: str | None, media_type: str | None) -> Self:
        """A path's own name, and the type that its ending stands for, unless others are given."""
        if not isinstance(source, bytes):
            source = Path(source)
            name = name or source.name
        name = name or "file"
        guessed, encoding = mimetypes.guess_type(name)
        return cls(source, name, media_type or (None if encoding else guessed) or _UNKNOWN_TYPE)


def target_of(path: Path | str | None, name: str) -> Path:
    """Where a file of that name is kept: at `path`, in that folder, or in the current one.

    The server's name for it never leads into another folder. FileExistsError when a name that the
    caller has not chosen is taken.
    """
    given = Path() if path is None else Path(path)
    if not given.is_dir():
        return given
    found = given / (re.split(r"[/\\]", name)[-1].strip(". \0") or "file")
    if found.exists():
        raise FileExistsError(f"{found} is there already; name a path to overwrite it")
    return found


class Sink:
    """A download that arrives: beside its target until it is whole and right, then in its place."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.size = 0  #: bytes that have come

    @property
    def sha256(self) -> str:
        """Of the bytes that have come, in hexadecimal."""
        return self._digest.hexdigest()

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """An answer's bytes follow: the rest of those that are here (206), or all of them."""
        found = _CONTENT_RANGE.match(headers.get("content-range", ""))
        goes_on = status == 206 and found is not None and int(found[1]) == self.size  # noqa: PLR2004
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self._part, flags, 0o666), "wb")
        elif not goes_on:
            self._file.seek(0)
            self._file.truncate()
            self._digest, self.size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        """The next bytes."""
        assert self._file is not None
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def keep(self) -> Path:
        """The target is there, whole; what was there before is gone."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._target)
        return self._target

    def discard(self) -> None:
        """Nothing is left of what has come, unless it was kept."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)
