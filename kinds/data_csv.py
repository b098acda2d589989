"""Delimited text, read through once before any query: what is wrong is named with its line.

Polars fills short lines with nulls and says of a bad byte only that there is one. So the bytes are
counted here first: a record of k fields has k-1 delimiters outside of quotes. Counting is quick;
only when the sums differ, Python's csv module looks for the line. What it finds to be right after
all (blank lines, an inch sign within a field) is written anew, so that Polars reads it alike.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinds.data_progress import Phase
from kinds.data_sources import PIECE, Source
from lading import Fail

HEADER_BYTES = 1024 * 1024  # a longer first line is no header
FIELD_CHARACTERS = 16 * 1024 * 1024  # a longer one is a quote that is never closed
MOST_COLUMNS = 2000  # each is checked, and named in a result of at most 1 MiB
DELIMITERS = (",", ";", "\t", "|")
QUOTED = re.compile(rb'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Survey:
    """A delimited text whose every record has as many fields as the header."""

    path: Path
    delimiter: str
    names: list[str]  #: unique and not empty
    rows: int  #: records after the header
    rewritten: bool = False  #: the file at `path` is not the one that was given
    line_is_row: bool = False  #: row 0 stands in line 2, and so on

    def place(self, row: int) -> str:
        """Where row 0, 1, … stands, in words for people."""
        return f"line {row + 2:,}" if self.line_is_row else f"row {row + 1:,}"


def survey(source: Source, folder: Path, phase: Phase, *, closely: bool = False) -> Survey:
    """What the file holds; Fail names the line that is not UTF-8, or has too few or many fields.

    `closely`: it is written anew even if the sums are right.
    """
    delimiter, names = _header(source)
    scan = _Scan(source.label, delimiter.encode())
    size, done = source.path.stat().st_size, 0
    with source.path.open("rb") as file:
        while piece := file.read(PIECE):
            scan.add(piece)
            done += len(piece)
            phase.report(done, size, f"checking {source.label}")
    scan.finish()
    right = scan.delimiters == scan.records * (len(names) - 1)
    if right and not (closely or scan.blank or scan.inside):
        line_is_row = scan.lines == scan.records
        return Survey(source.path, delimiter, names, scan.records - 1, line_is_row=line_is_row)
    target = folder / f"{source.name}-anew"
    records = _write_anew(source, delimiter, len(names), target, phase)
    return Survey(target, delimiter, names, records - 1, rewritten=True)


def _header(source: Source) -> tuple[str, list[str]]:
    with source.path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if b"\n" not in head and file.read(1):
            raise Fail(f"the first line of {source.label} is longer than {HEADER_BYTES:,} bytes")
    if b"\r" in head and b"\n" not in head:
        raise Fail(f"{source.label} ends its lines with a carriage return alone; \\n is read")
    text = head.decode("utf-8-sig", errors="replace")  # bad bytes are found with their line later
    if source.format == "tsv":
        return "\t", _names(source, _first_record(text, "\t"))
    records = {delimiter: _first_record(text, delimiter) for delimiter in DELIMITERS}
    delimiter = "," if len(records[","]) > 1 else max(records, key=lambda each: len(records[each]))
    return delimiter, _names(source, records[delimiter])


def _first_record(text: str, delimiter: str) -> list[str]:
    csv.field_size_limit(FIELD_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return next((record for record in reader if record), [])


def _names(source: Source, record: list[str]) -> list[str]:
    """The header's names: those without get one, those taken a number."""
    if not record:
        raise Fail(f"{source.label} is empty")
    if len(record) > MOST_COLUMNS:
        raise Fail(f"{source.label} has {len(record):,} columns; {MOST_COLUMNS:,} are read")
    names: dict[str, None] = {}
    for number, given in enumerate(record, start=1):
        wanted = name = given.strip() or f"column_{number}"
        again = 2
        while name in names:
            name, again = f"{wanted}_{again}", again + 1
        names[name] = None
    return list(names)


class _Scan:
    """Counts what stands outside of quotes, piece by piece, and checks that all of it is UTF-8."""

    def __init__(self, label: str, delimiter: bytes) -> None:
        self.lines = self.records = self.delimiters = 0
        self.inside = self.blank = False
        self._label, self._delimiter = label, delimiter
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._tail = b"\n"  # of what stands outside of quotes: the file begins on a new line

    def add(self, piece: bytes) -> None:
        """The piece is counted; Fail when it is no text."""
        self._check_text(piece)
        plain = self._outside_quotes(piece)
        self.delimiters += plain.count(self._delimiter)
        self.records += plain.count(b"\n")
        self.lines += piece.count(b"\n")
        seam = self._tail + plain
        self.blank = self.blank or b"\n\n" in seam or b"\n\r\n" in seam
        self._tail = seam[-2:]

    def finish(self) -> None:
        """The last line is counted too, if nothing ends it."""
        self._check_text(b"", final=True)
        if not self._tail.endswith(b"\n"):
            self.records += 1
            self.lines += 1

    def _check_text(self, piece: bytes, *, final: bool = False) -> None:
        if (zero := piece.find(b"\0")) >= 0:
            raise Fail(f"line {self._line(piece[:zero]):,} of {self._label} holds a NUL: no text")
        if not final and piece.isascii() and not self._decoder.getstate()[0]:
            return
        try:
            self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            line, byte = self._line(error.object[: error.start]), error.object[error.start]
            raise Fail(f"line {line:,} of {self._label} is not UTF-8: byte 0x{byte:02x}") from error

    def _line(self, before: bytes) -> int:
        return self.lines + before.count(b"\n") + 1

    def _outside_quotes(self, piece: bytes) -> bytes:
        """The piece with each quoted part made a `q`; a doubled quote is two parts that touch."""
        if self.inside:
            end = piece.find(b'"')
            if end < 0:
                return b""
            self.inside, piece = False, piece[end + 1 :]
        if b'"' not in piece:
            return piece
        piece = QUOTED.sub(b"q", piece)
        start = piece.find(b'"')
        if start >= 0:
            self.inside, piece = True, piece[:start] + b"q"
        return piece


def _write_anew(source: Source, delimiter: str, fields: int, target: Path, phase: Phase) -> int:
    """The records are in the file `target`, quoted where they must be; how many there are.

    Blank lines are left out. Fail names the first line with another number of fields, or a quote
    that is not closed.
    """
    csv.field_size_limit(FIELD_CHARACTERS)
    reader = csv.reader(_lines(source, phase), delimiter=delimiter, strict=True)
    records = ended = 0
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter=delimiter)
        try:
            for record in reader:
                begun, ended = ended + 1, reader.line_num
                if record and len(record) != fields:
                    found = f"{len(record):,} field{'s' if len(record) != 1 else ''}"
                    raise Fail(f"line {begun:,} of {source.label} has {found}, expected {fields:,}")
                if record:
                    writer.writerow(record)
                    records += 1
        except csv.Error as error:
            raise Fail(_bad_quotes(source, ended + 1, str(error))) from error
    return records


def _bad_quotes(source: Source, line: int, error: str) -> str:
    if "unexpected end" in error or "field limit" in error:
        return f"line {line:,} of {source.label} opens a quote that is never closed"
    if "new-line" in error:
        return f"line {line:,} of {source.label} has a carriage return within"
    return f"line {line:,} of {source.label} goes on after a closing quote"


def _lines(source: Source, phase: Phase) -> Iterator[str]:
    size, done = source.path.stat().st_size, 0
    with source.path.open("rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        for number, line in enumerate(file):
            done += len(line)
            if number % 10_000 == 0:
                phase.report(done, size, f"looking closely at {source.label}")
            yield line.decode()
