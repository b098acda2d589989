"""The files of a task: what format each has, and where its bytes lie once they are unpacked.

A file's name decides (`flights.csv.zip`, `x.tsv`, `y.parquet.gz`); its first bytes must agree. A
name is looked at and shown, and never becomes a path. What .zip and .gz hold is written to the
task's folder in pieces, as far as there is room for it and the ratio is one that data has.
"""

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from kinds.data_progress import Phase
from lading import Fail

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
EXPECTED = "its name must end in .csv, .tsv, .parquet, .jsonl or .ndjson, or one of them and .gz,"
PIECE = 1024 * 1024  # bytes
FREE_UNPACKED = 256 * 1024 * 1024  # bytes that may come out of anything, however small
RATIO = 200  # repetitive tables reach 100, deflate's own limit of 1032 is reached by bombs only
ROOM_LEFT = 512 * 1024 * 1024  # bytes of disk that others need
LABEL_LENGTH = 120  # characters; the end stays, it says the format
NAMED = 5  # members named in a message
ENCRYPTED = 1  # the flag of a zip member
MAGIC = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip file", b"PAR1": "a Parquet file"}


class Readable(Protocol):
    """A file's bytes as they are unpacked."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One input: `name` in the query, `label` in messages, and its bytes at `path`."""

    name: str
    label: str
    path: Path
    format: str  #: csv, tsv, parquet or jsonl


def open_sources(
    inputs: dict[str, dict[str, str]], folder: Path, phase: Phase
) -> dict[str, Source]:
    """The inputs in the order given, unpacked into `folder`; Fail names the file and its fault."""
    opened = {}
    for number, (name, given) in enumerate(inputs.items()):
        packed = Source(name, _label(given["name"]), Path(given["path"]), "")
        part = phase.split(number, len(inputs))
        source = _unpacked(packed, folder / f"input-{number}", part)
        _check_magic(source)
        opened[name] = source
        part.report(1, 1, f"{source.label} is open")
    return opened


def _label(name: str) -> str:
    """The name as messages show it: its last part, printable, no longer than a line."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    shown = "".join(each if each.isprintable() else "?" for each in last) or "file"
    return shown if len(shown) <= LABEL_LENGTH else f"{shown[:80]}…{shown[81 - LABEL_LENGTH :]}"


def _unpacked(source: Source, target: Path, phase: Phase) -> Source:
    match PurePosixPath(source.label.lower()).suffix:
        case ".zip":
            return _from_zip(source, target, phase)
        case ".gz":
            return _from_gzip(source, target, phase)
        case suffix if suffix in FORMATS:
            return replace(source, format=FORMATS[suffix])
    raise Fail(f"{source.label}: {EXPECTED} or be a .zip with one of them inside")


def _from_gzip(source: Source, target: Path, phase: Phase) -> Source:
    inner = source.label[:-3]
    format_ = FORMATS.get(PurePosixPath(inner.lower()).suffix)
    if format_ is None:
        raise Fail(f"{source.label}: {EXPECTED} or be a .zip with one of them inside")
    size = source.path.stat().st_size
    with source.path.open("rb") as raw, _readable(source.label), gzip.open(raw) as stream:
        _copy(source, stream, target, lambda _: phase.report(raw.tell(), size, _doing(source)))
    return replace(source, label=inner, path=target, format=format_)


def _from_zip(source: Source, target: Path, phase: Phase) -> Source:
    with _readable(source.label), zipfile.ZipFile(source.path) as archive:
        member = _only_table(source.label, archive)
        if member.flag_bits & ENCRYPTED:
            raise Fail(f"{source.label} is encrypted")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Fail(f"{source.label} is not compressed by deflate, the usual method")
        label, size = _label(member.filename), member.file_size  # never more is read than that
        with archive.open(member) as stream:
            _copy(source, stream, target, lambda done: phase.report(done, size, _doing(source)))
    suffix = PurePosixPath(label.lower()).suffix
    return replace(source, label=label, path=target, format=FORMATS[suffix])


def _doing(source: Source) -> str:
    return f"unpacking {source.label}"


def _only_table(label: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [each for each in archive.infolist() if not each.is_dir() and not _is_aside(each)]
    tables = [each for each in members if PurePosixPath(each.filename.lower()).suffix in FORMATS]
    if len(tables) == 1:
        return tables[0]
    found = tables or members
    names = ", ".join(_label(each.filename) for each in found[:NAMED])
    if len(found) > NAMED:
        names += f" and {len(found) - NAMED} more"
    if tables:
        raise Fail(f"{label} holds {len(tables)} tables ({names}); one is expected")
    raise Fail(f"{label} holds no table ({names or 'it is empty'}): {EXPECTED[:-1]}")


def _is_aside(member: zipfile.ZipInfo) -> bool:
    """What file managers leave in archives beside the data."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    return "__MACOSX" in path.parts or path.name.startswith(".")


def _copy(source: Source, stream: Readable, target: Path, report: Callable[[int], None]) -> None:
    """The stream's bytes are at `target`; Fail when they are more than any table's would be."""
    most = max(FREE_UNPACKED, RATIO * source.path.stat().st_size)
    written = 0
    with target.open("wb") as out:
        while piece := stream.read(PIECE):
            written += len(piece)
            if written > most:
                raise Fail(
                    f"{source.label} unpacks to more than {most:,} bytes, {RATIO} times its size:"
                    " that is no table but a bomb"
                )
            if shutil.disk_usage(target.parent).free < ROOM_LEFT:
                raise OSError(f"no room on disk to unpack {source.label}")
            out.write(piece)
            report(written)


@contextmanager
def _readable(label: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Fail(f"{label} is damaged: {error}") from error
    except NotImplementedError as error:  # a version of the format
        raise Fail(f"{label} cannot be unpacked: {error}") from error


def _check_magic(source: Source) -> None:
    with source.path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise Fail(f"{source.label} is empty")
    found = next((what for magic, what in MAGIC.items() if start.startswith(magic)), None)
    if source.format == "parquet":
        if found != MAGIC[b"PAR1"]:
            raise Fail(f"{source.label} is {found or 'no Parquet file'}, in spite of its name")
    elif found:
        raise Fail(f"{source.label} is {found}, in spite of its name")
    elif start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Fail(f"{source.label} is UTF-16; only UTF-8 is read")
