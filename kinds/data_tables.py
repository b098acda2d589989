"""The inputs of a task as tables: lazy frames that stream, with their rows counted and types known.

A table is read from its file each time it is used; nothing of it is kept in memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from kinds.data_csv import MOST_COLUMNS, Survey, survey
from kinds.data_jsonl import survey_lines
from kinds.data_progress import Phase
from kinds.data_sources import Source
from kinds.data_types import decide_types
from lading import Fail

Seen = Callable[[int], None]  #: is told of so many more rows
HINT_LENGTH = 300  # characters of Polars' words in a message


@dataclass(frozen=True, slots=True)
class Table:
    """One input, ready to be queried."""

    source: Source
    path: Path  #: the one file that is read
    raw: pl.LazyFrame
    rows: int
    columns: Mapping[str, pl.DataType]
    reading: list[pl.Expr] = field(default_factory=list)  #: text as what it is; none: as it stands
    reasons: Mapping[str, str] = field(default_factory=dict)  #: why columns are text, by name
    countable: bool = True

    def frame(self, seen: Seen | None = None) -> pl.LazyFrame:
        """The table's rows; `seen` is called by Polars' threads as they are read.

        A Parquet file is not counted: whole groups of its rows are skipped unread.
        """
        frame = counted(self.raw, seen) if seen and self.countable else self.raw
        return frame.select(self.reading) if self.reading else frame


def counted(frame: pl.LazyFrame, seen: Seen) -> pl.LazyFrame:
    """The same rows; `seen` is told of them as they pass."""

    def pass_on(batch: pl.DataFrame) -> pl.DataFrame:
        seen(batch.height)
        return batch

    return frame.map_batches(
        pass_on,
        streamable=True,
        projection_pushdown=True,  # what nobody asks for is not read
        predicate_pushdown=False,  # or only the rows that pass would be counted
        slice_pushdown=False,
    )


def open_table(source: Source, folder: Path, phase: Phase) -> Table:
    """The table in the file; Fail names its first line or column that is not what it must be."""
    match source.format:
        case "parquet":
            table = _parquet(source)
        case "jsonl":
            table = _lines(source, phase)
        case _:
            table = _text(source, folder, phase)
    if len(table.columns) > MOST_COLUMNS:
        raise Fail(f"{source.label} has {len(table.columns):,} columns; {MOST_COLUMNS:,} are read")
    return table


def _parquet(source: Source) -> Table:
    try:
        frame = pl.scan_parquet(source.path, glob=False, hive_partitioning=False)
        columns = frame.collect_schema()
        rows = frame.select(pl.len()).collect(engine="streaming").item()
    except (PolarsError, PanicException, OSError) as error:
        raise Fail(f"{source.label} is damaged: {first_words(error)}") from error
    return Table(source, source.path, frame, rows, columns, countable=False)


def _lines(source: Source, phase: Phase) -> Table:
    found = survey_lines(source, phase)
    frame = pl.scan_ndjson(source.path, schema=found.schema)
    return Table(source, source.path, frame, found.rows, found.schema)


def _text(source: Source, folder: Path, phase: Phase) -> Table:
    middle = (phase.start + phase.end) / 2
    checking = Phase(phase.channel, phase.start, middle)
    typing = Phase(phase.channel, middle, phase.end)
    surveyed = survey(source, folder, checking)
    try:
        return _typed(source, surveyed, typing)
    except PolarsError as error:
        if surveyed.rewritten:
            raise Fail(f"{source.label} cannot be read: {first_words(error)}") from error
    # Quotes within fields, as in 5" pipe, are counted by Polars as if they were around them.
    try:
        return _typed(source, survey(source, folder, checking, closely=True), typing)
    except PolarsError as error:
        raise Fail(f"{source.label} cannot be read: {first_words(error)}") from error


def _typed(source: Source, surveyed: Survey, phase: Phase) -> Table:
    raw = pl.scan_csv(
        surveyed.path,
        schema=dict.fromkeys(surveyed.names, pl.String()),
        has_header=False,
        skip_rows=1,
        separator=surveyed.delimiter,
        empty_string_is_null=False,
        raise_if_empty=False,
        glob=False,
    )
    tally = Tally(phase, surveyed.rows, f"finding the types in {source.label}")
    typing = decide_types(counted(raw, tally.add), surveyed)
    reading = typing.read()
    columns = raw.select(reading).collect_schema()
    return Table(source, surveyed.path, raw, surveyed.rows, columns, reading, typing.reasons)


@dataclass(slots=True)
class Tally:
    """Counts rows that pass, and shows them as progress."""

    phase: Phase
    total: int
    message: str
    count: int = 0

    def add(self, rows: int) -> None:
        """So many more; called under the interpreter's lock, so no count is lost."""
        self.count += rows
        self.phase.report(self.count, self.total, self.message)


def first_words(error: BaseException) -> str:
    """What Polars says, without the plan and the advice for programmers below it."""
    words = str(error).split("\n\n", 1)[0].replace("\n", " ").strip()
    return words if len(words) <= HINT_LENGTH else f"{words[:HINT_LENGTH]} …"
