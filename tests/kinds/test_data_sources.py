import gzip
import io
import json
import os
import struct
import zipfile
from pathlib import Path

import pytest

from kinds import data_sources
from kinds.data_progress import Channel, Phase
from kinds.data_sources import Source, open_sources
from lading import Fail
from tests.kinds.tables import quiet_phase

ROWS = b"a,b\n1,2\n"


def sources(tmp_path: Path, name: str, content: bytes, shown: str | None = None) -> Source:
    path = tmp_path / "stored"
    path.write_bytes(content)
    given = {"t": {"path": str(path), "name": shown or name}}
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    return open_sources(given, folder, quiet_phase())["t"]


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def refusal(tmp_path: Path, name: str, content: bytes) -> str:
    with pytest.raises(Fail) as refused:
        sources(tmp_path, name, content)
    return refused.value.reason


@pytest.mark.parametrize(
    ("name", "content", "label", "file_format"),
    [
        ("x.csv", ROWS, "x.csv", "csv"),
        ("X.CSV", ROWS, "X.CSV", "csv"),
        ("x.tab", ROWS, "x.tab", "tsv"),
        ("x.ndjson", b"{}", "x.ndjson", "jsonl"),
        ("x.tsv.gz", gzip.compress(ROWS, mtime=0), "x.tsv", "tsv"),
        (
            "x.csv.gz",
            gzip.compress(b"a,b\n", mtime=0) + gzip.compress(b"1,2\n", mtime=0),
            "x.csv",
            "csv",
        ),
        ("x.zip", zipped(("inner.csv", ROWS)), "inner.csv", "csv"),
        ("x.csv.zip", zipped(("deep/inner.tsv", ROWS)), "inner.tsv", "tsv"),
        ("x.zip", zipped(("i.csv", ROWS), method=zipfile.ZIP_STORED), "i.csv", "csv"),
    ],
)
def test_a_file_is_what_its_name_says(
    tmp_path: Path, name: str, content: bytes, label: str, file_format: str
) -> None:
    source = sources(tmp_path, name, content)
    assert (source.label, source.format) == (label, file_format)
    if file_format != "jsonl":
        assert source.path.read_bytes() == ROWS


def test_an_unpacked_file_is_not_copied(tmp_path: Path) -> None:
    assert sources(tmp_path, "x.csv", ROWS).path == tmp_path / "stored"


def test_of_an_archive_the_only_table_is_taken(tmp_path: Path) -> None:
    members = [
        ("README.md", b"about"),
        ("__MACOSX/._flights.csv", b"\0"),
        (".hidden.csv", b"x"),
        ("data/", b""),
        ("data/flights.csv", ROWS),
    ]
    source = sources(tmp_path, "x.zip", zipped(*members))
    assert (source.label, source.path.read_bytes()) == ("flights.csv", ROWS)


@pytest.mark.parametrize(
    "name", ["../../escaped.csv", "/tmp/escaped.csv", "..\\..\\escaped.csv", "C:\\escaped.csv"]
)
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    source = sources(tmp_path, "x.zip", zipped((name, ROWS)))
    assert source.path == tmp_path / "folder/input-0"
    assert source.label == "escaped.csv"
    assert sources(tmp_path, name, ROWS).label == "escaped.csv"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.csv", ROWS), ("b.tsv", ROWS)], "x.zip holds 2 tables (a.csv, b.tsv); one is expect"),
        ([(f"{n}.csv", ROWS) for n in range(9)], "x.zip holds 9 tables (0.csv, 1.csv, 2.csv, 3.c"),
        ([("readme.txt", b"hello")], "x.zip holds no table (readme.txt): its name must end in"),
        ([], "x.zip holds no table (it is empty)"),
        ([("a.csv.gz", gzip.compress(ROWS, mtime=0))], "x.zip holds no table (a.csv.gz)"),
    ],
)
def test_an_archive_that_leaves_a_choice_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: str
) -> None:
    assert refusal(tmp_path, "x.zip", zipped(*members)).startswith(reason)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


NUMBERS = "".join(f"{number},{number * 7919 % 1009}\n" for number in range(5000)).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv.gz", gzip.compress(NUMBERS, mtime=0)[:-20]),
        ("x.csv.gz", flipped(gzip.compress(NUMBERS, mtime=0), 5000)),
        ("x.csv.gz", b"no gzip at all"),
        ("x.csv.gz", gzip.compress(NUMBERS, mtime=0) + b"and more"),
        ("x.zip", zipped(("a.csv", NUMBERS))[:-20]),
        ("x.zip", flipped(zipped(("a.csv", NUMBERS)), 5000)),
        ("x.zip", b"no zip at all"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert refusal(tmp_path, name, content).startswith(f"{name} is damaged: ")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(("a.csv", ROWS)))
    central = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, central + 8, 1)
    struct.pack_into("<H", content, 6, 1)
    assert refusal(tmp_path, "x.zip", bytes(content)) == "x.zip is encrypted"


def test_an_unusual_compression_is_refused(tmp_path: Path) -> None:
    content = zipped(("a.csv", ROWS), method=zipfile.ZIP_BZIP2)
    assert refusal(tmp_path, "x.zip", content).startswith("x.zip is not compressed by deflate")


@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_a_bomb_is_not_unpacked(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "FREE_UNPACKED", 4 * data_sources.PIECE)
    zeros = b"0" * (16 * data_sources.PIECE)  # 1000 times as long as what it is packed to
    if packing == "gz":
        name, content = "x.csv.gz", gzip.compress(zeros, mtime=0)
    else:
        name, content = "x.zip", zipped(("x.csv", zeros))
    assert "that is no table but a bomb" in refusal(tmp_path, name, content)
    assert (tmp_path / "folder/input-0").stat().st_size <= 4 * data_sources.PIECE


def test_a_full_disk_is_no_fault_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "ROOM_LEFT", 1 << 60)
    with pytest.raises(OSError, match="no room on disk"):
        sources(tmp_path, "x.csv.gz", gzip.compress(ROWS, mtime=0))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", b"", "x.csv is empty"),
        ("x.csv", b"PK\x03\x04", "x.csv is a zip archive, in spite of its name"),
        ("x.csv", b"\x1f\x8b\x08", "x.csv is a gzip file, in spite of its name"),
        ("x.jsonl", b"PAR1", "x.jsonl is a Parquet file, in spite of its name"),
        ("x.parquet", ROWS, "x.parquet is no Parquet file, in spite of its name"),
        ("x.csv", "a,b\n".encode("utf-16"), "x.csv is UTF-16; only UTF-8 is read"),
        ("x.csv.gz", gzip.compress(b"", mtime=0), "x.csv is empty"),
        ("x.txt", ROWS, "x.txt: its name must end in .csv, .tsv, .parquet, .jsonl or .ndjson,"),
        ("x.gz", gzip.compress(ROWS, mtime=0), "x.gz: its name must end in .csv,"),
        ("noname", ROWS, "noname: its name must end in .csv,"),
    ],
)
def test_a_name_and_bytes_that_do_not_agree_are_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    assert refusal(tmp_path, name, content).startswith(reason)


def test_what_is_shown_of_a_name_is_one_printable_line(tmp_path: Path) -> None:
    label = sources(tmp_path, "x.csv", ROWS, shown="a\n\x1b[31m" + "b" * 500 + ".csv").label
    assert label.startswith("a??[31mb")
    assert len(label) == 120


def test_unpacking_shows_how_far_it_is(tmp_path: Path) -> None:
    """By the packed bytes that have been read: half of the file is half of the phase."""
    reader, writer = os.pipe()
    channel = Channel(writer)
    path = tmp_path / "stored"
    path.write_bytes(gzip.compress(os.urandom(8 * data_sources.PIECE), 1, mtime=0))
    given = {"t": {"path": str(path), "name": "x.csv.gz"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinds.data_progress.EVERY", 0)
        open_sources(given, tmp_path, Phase(channel, 0, 0.5))
    os.close(writer)
    with os.fdopen(reader) as lines:
        messages = [json.loads(line) for line in lines]
    fractions = [message["progress"] for message in messages]
    assert fractions == sorted(fractions)
    assert len(fractions) >= 8
    assert fractions[-1] == 0.5
    assert 0.2 < fractions[len(fractions) // 2] < 0.35
