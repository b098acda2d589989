"""data.profile in the engine's process: what a table holds, column by column.

One pass over all rows counts and adds up. Quantiles and plots come from a sample, which is all rows
when there are few. Top values are counted over all rows; in a column with very many different
values the sample says which ones are counted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from kinds.data_facts import asked, described, is_plain, json_value, pictured
from kinds.data_progress import Channel, Phase
from kinds.data_report import write_report
from kinds.data_sources import open_sources
from kinds.data_tables import Table, Tally, first_words, open_table
from lading import Fail

UNPACKED, CHECKED, COUNTED, LOOKED = 0.1, 0.4, 0.65, 0.98  # where each part of the work ends
SAMPLE_ROWS = 1_000_000  # an error of 0.05 % of the rows, at most, in a quantile
SAMPLE_BYTES = 64 * 1024 * 1024  # of the columns that are looked at together
FIXED_WIDTH = 8  # bytes of a number or a time
VIEW_WIDTH = 16  # bytes that a text takes beside its own
FEW_VALUES = 100_000  # groups that fit into memory several times over
TOP = 10
RESULT_BYTES = 900_000  # a job's result ends at 1 MiB
SEED = 20130101  # any; the same rows are drawn from the same file each time
ROW = "\N{NO-BREAK SPACE}row"


@dataclass(slots=True)
class Column:
    """What is known of one column."""

    name: str
    dtype: pl.DataType
    facts: dict[str, Any] = field(default_factory=dict)  #: as the result has them
    picture: dict[str, Any] = field(default_factory=dict)  #: what the report plots


def profile(task: dict[str, Any], folder: Path, channel: Channel) -> dict[str, Any]:
    """The facts of all columns, and the name of the report's file in `folder`."""
    sources = open_sources(task["inputs"], folder, Phase(channel, 0, UNPACKED))
    source = sources["file"]
    table = open_table(source, folder, Phase(channel, UNPACKED, CHECKED))
    try:
        columns = _count(table, Phase(channel, CHECKED, COUNTED))
        _look(table, columns, Phase(channel, COUNTED, LOOKED))
    except PolarsError as error:
        raise Fail(f"{source.label} cannot be read: {first_words(error)}") from error
    channel.progress(LOOKED, "writing the report", now=True)
    write_report(folder / "report", source.label, table.rows, columns, table.reasons)
    return {"file": "report", "rows": table.rows, "columns": _result(columns)}


def _count(table: Table, phase: Phase) -> list[Column]:
    """All columns with what one pass over the rows tells."""
    tally = Tally(phase, table.rows, "counting")
    columns = [Column(name, dtype) for name, dtype in table.columns.items()]
    questions = [
        question.alias(f"{number}:{key}")
        for number, column in enumerate(columns)
        for key, question in asked(column.name, column.dtype).items()
    ]
    found = table.frame(tally.add).select(questions).collect(engine="streaming")
    for key, value in found.row(0, named=True).items():
        number, _, fact = key.partition(":")
        columns[int(number)].facts[fact] = json_value(value)
    for column in columns:
        column.facts = {"type": str(column.dtype), **column.facts}
    return columns


def _look(table: Table, columns: list[Column], phase: Phase) -> None:
    """Quantiles, top values and plots are added, for as many columns at once as memory allows."""
    plain = [column for column in columns if is_plain(column.dtype)]
    done = 0
    for batch in _batches(plain):
        part = Phase(phase.channel, *_share(phase, done, done + len(batch), len(plain)))
        sample = _sample(table, batch, Phase(part.channel, part.start, _half(part)))
        counting = Phase(part.channel, _half(part), part.end)
        for number, column in enumerate(batch):
            values = sample[column.name].drop_nulls()
            whole = sample.height == table.rows
            column.facts |= described(values, column.dtype)
            column.facts["sample"] = sample.height
            top = _top(table, column, values, counting.split(number, len(batch)), whole=whole)
            column.facts["top"] = top
            column.picture = pictured(values, column.dtype)
        done += len(batch)


def _share(phase: Phase, begin: int, end: int, count: int) -> tuple[float, float]:
    width = (phase.end - phase.start) / count
    return phase.start + begin * width, phase.start + end * width


def _half(phase: Phase) -> float:
    return (phase.start + phase.end) / 2


def _batches(columns: list[Column]) -> Iterator[list[Column]]:
    batch: list[Column] = []
    for column in columns:
        if batch and _width([*batch, column]) * SAMPLE_ROWS > SAMPLE_BYTES:
            yield batch
            batch = []
        batch.append(column)
    if batch:
        yield batch


def _width(columns: list[Column]) -> int:
    """Bytes of a row of these columns, about."""
    return sum(
        int(column.facts["lengths"]["mean"] or 0) + VIEW_WIDTH
        if "lengths" in column.facts
        else FIXED_WIDTH
        for column in columns
    )


def _sample(table: Table, batch: list[Column], phase: Phase) -> pl.DataFrame:
    """Rows drawn evenly from the whole table, or all of them when they are few."""
    names = [column.name for column in batch]
    wanted = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // _width(batch)))
    tally = Tally(phase, table.rows, f"looking at {names[0]}")
    frame = table.frame(tally.add)
    if table.rows > wanted:
        one_of = -(-table.rows // wanted)
        drawn = pl.col(ROW).hash(seed=SEED) % one_of == 0
        frame = frame.with_row_index(ROW).filter(drawn)
    return frame.select(names).collect(engine="streaming")


def _top(
    table: Table, column: Column, values: pl.Series, phase: Phase, *, whole: bool
) -> list[dict[str, Any]]:
    """The most frequent values and how often each occurs in all rows; none when all differ."""
    counts = _counted(values.to_frame().lazy())
    if whole:
        column.facts["distinct"] = counts.height
    elif column.facts["distinct"] <= FEW_VALUES:
        counts = _counted(_only(table, column, phase).drop_nulls())
        column.facts["distinct"] = counts.height
    elif not counts.is_empty() and counts["len"].max() != 1:
        candidates = counts.sort("len", descending=True).head(TOP)[column.name]
        frame = _only(table, column, phase).filter(pl.col(column.name).is_in(candidates.implode()))
        counts = _counted(frame)
    most = counts.sort(["len", column.name], descending=[True, False]).head(TOP)
    if most.is_empty() or (most["len"].max() == 1 and counts.height > TOP):
        return []
    return [{"value": json_value(value), "count": count} for value, count in most.rows()]


def _only(table: Table, column: Column, phase: Phase) -> pl.LazyFrame:
    tally = Tally(phase, table.rows, f"counting the values of {column.name}")
    return table.frame(tally.add).select(column.name)


def _counted(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.group_by(pl.all()).agg(pl.len().alias("len")).collect(engine="streaming")


def _result(columns: list[Column]) -> dict[str, dict[str, Any]]:
    """The facts by name; with fewer top values where all of them were too much for a result."""
    result = {column.name: dict(column.facts) for column in columns}
    for kept in (5, 3, 0):
        if len(json.dumps(result)) <= RESULT_BYTES:
            break
        for facts in result.values():
            facts["top"] = facts.get("top", [])[:kept]
    return result
