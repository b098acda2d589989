"""JSON Lines, read through once before any query, block by block.

A block's schema is what all of its lines have in common; the file's schema holds those of all
blocks. A line that is no JSON object is named with its number, and so are two lines that do not
agree whether a key holds a truth value, a number, a list or an object. (With text all agree.)
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError

from kinds.data_progress import Phase
from kinds.data_sources import Source
from lading import Fail

BLOCK = 8 * 1024 * 1024  # bytes; parsed, it takes a few times as much memory
LONGEST_LINE = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class LinesSurvey:
    """A file of JSON objects whose keys agree on their types."""

    schema: pl.Schema
    rows: int


@dataclass(frozen=True, slots=True)
class _Block:
    first: int  #: the number of its first line
    bytes: bytes


def survey_lines(source: Source, phase: Phase) -> LinesSurvey:
    """What the file holds; Fail names the line that is no JSON object, or contradicts another."""
    size, done, rows = source.path.stat().st_size, 0, 0
    common: pl.DataFrame | None = None
    for block in _blocks(source):
        found = _read(source, block)
        if found is not None:
            rows += found.height
            common = _united(source, common, found.clear())
        done += len(block.bytes)
        phase.report(done, size, f"checking {source.label}")
    if common is None:
        raise Fail(f"{source.label} is empty")
    return LinesSurvey(common.schema, rows)


def _blocks(source: Source) -> Iterator[_Block]:
    line, rest = 1, b""
    with source.path.open("rb") as file:
        while piece := file.read(BLOCK):
            whole, newline, rest_of_piece = piece.rpartition(b"\n")
            if not newline:
                rest += piece
                if len(rest) > LONGEST_LINE:
                    raise Fail(f"line {line:,} of {source.label} is longer than a line can be")
                continue
            block = _Block(line, rest + whole + newline)
            yield block
            line, rest = line + block.bytes.count(b"\n"), rest_of_piece
    if rest:
        yield _Block(line, rest)


def _read(source: Source, block: _Block) -> pl.DataFrame | None:
    """The block's rows; None when all of its lines are blank."""
    try:
        block.bytes.decode()
    except UnicodeDecodeError as error:
        line = block.first + block.bytes.count(b"\n", 0, error.start)
        raise Fail(f"line {line:,} of {source.label} is not UTF-8") from error
    if not block.bytes.strip():
        return None
    try:
        return pl.read_ndjson(io.BytesIO(block.bytes), infer_schema_length=None)
    except PolarsError as error:
        _find_fault(source, block.first + block.bytes.count(b"\n"))
        message = str(error).split("\n", 1)[0]
        raise Fail(f"{source.label}, near line {block.first:,}: {message}") from error


def _united(source: Source, common: pl.DataFrame | None, found: pl.DataFrame) -> pl.DataFrame:
    """An empty frame with the columns of both; Fail when those of one name do not agree."""
    if common is None:
        return found
    for name, dtype in found.schema.items():
        if _shape(common.schema.get(name)) | _shape(dtype) in CONTRADICTIONS:
            _find_fault(source, None)
    try:
        return pl.concat([common, found], how="diagonal_relaxed")
    except PolarsError as error:
        raise Fail(f"{source.label} has lines that do not agree: {error}") from error


def _shape(dtype: pl.DataType | None) -> frozenset[str]:
    if dtype is None or dtype in (pl.Null, pl.String):
        return frozenset()
    if isinstance(dtype, pl.List):
        return frozenset({"a list"})
    if isinstance(dtype, pl.Struct):
        return frozenset({"an object"})
    return frozenset({"true or false" if dtype == pl.Boolean else "a number"})


SHAPES = {bool: "true or false", int: "a number", float: "a number"} | {
    list: "a list",
    dict: "an object",
}
CONTRADICTIONS = frozenset(
    frozenset({one, other}) for one in SHAPES.values() for other in SHAPES.values() if one != other
)


def _find_fault(source: Source, until: int | None) -> None:
    """Fail with the first line (up to line `until`) that is no object or contradicts another."""
    seen: dict[str, tuple[str, int]] = {}
    with source.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if until is not None and number > until:
                return
            if not line.strip():
                continue
            for key, value in _object(source, number, line).items():
                shape = SHAPES.get(type(value))
                if shape is None:
                    continue
                before, where = seen.setdefault(key, (shape, number))
                if before != shape:
                    raise Fail(
                        f"line {number:,} of {source.label} has {shape} as `{key}`,"
                        f" line {where:,} has {before}"
                    )


def _object(source: Source, number: int, line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        fault = f"{error.msg}, at character {error.pos + 1:,}"
        raise Fail(f"line {number:,} of {source.label} is no JSON: {fault}") from error
    except (ValueError, RecursionError) as error:
        raise Fail(f"line {number:,} of {source.label} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Fail(f"line {number:,} of {source.label} is no JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
