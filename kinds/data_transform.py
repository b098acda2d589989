"""data.transform in the engine's process: open the inputs, run the query, write its rows.

All three stream: memory does not grow with the files, but for what a query must remember.
"""

from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from kinds.data_progress import Channel, Phase
from kinds.data_sources import open_sources
from kinds.data_sql import check_statement, explain, resolve
from kinds.data_tables import Table, Tally, counted, open_table
from lading import Fail

UNPACKED, CHECKED, QUERIED = 0.2, 0.6, 0.98  # of the whole: where each part of the work ends
STAMP = "%Y-%m-%dT%H:%M:%S%.f"  # RFC 3339; with the offset where there is one


def transform(task: dict[str, Any], folder: Path, channel: Channel) -> dict[str, Any]:
    """The file that the query makes, and the rows in and out; Fail when it cannot be."""
    sql = task["sql"]
    check_statement(sql, task["inputs"])
    sources = open_sources(task["inputs"], folder, Phase(channel, 0, UNPACKED))
    checking = Phase(channel, UNPACKED, CHECKED)
    tables = []
    for number, source in enumerate(sources.values()):
        table = open_table(source, folder, checking.split(number, len(sources)))
        channel.log("info", f"{source.label} has {table.rows:,} rows", **_facts(table))
        tables.append(table)
    target = folder / "output"
    schema, rows_out = _run(sql, tables, task["format"], target, Phase(channel, CHECKED, QUERIED))
    channel.progress(QUERIED, f"{rows_out:,} rows written", now=True)
    return {
        "file": target.name,
        "rows_in": {table.source.name: table.rows for table in tables},
        "rows_out": rows_out,
        "schema": {name: str(dtype) for name, dtype in schema.items()},
    }


def _facts(table: Table) -> dict[str, Any]:
    facts: dict[str, Any] = {"columns": len(table.columns)}
    if table.reasons:
        facts["text_because"] = dict(list(table.reasons.items())[:20])
    return facts


def _run(
    sql: str, tables: list[Table], file_format: str, target: Path, phase: Phase
) -> tuple[pl.Schema, int]:
    """The query's rows are in the file `target`; their types and their number."""
    total = sum(table.rows for table in tables if table.countable)
    read = Tally(phase, total, "running the query")
    frames = {table.source.name: table.frame(read.add) for table in tables}
    query = resolve(sql, frames, tables)
    schema = query.collect_schema()
    phase.report(0, total, read.message, now=True)
    written = _Written(read)
    out = counted(query, written.add)
    try:
        if file_format == "csv":
            out.select(_as_text(schema)).sink_csv(target, engine="streaming")
        else:
            out.sink_parquet(target, engine="streaming")
    except PolarsError as error:
        raise Fail(explain(error, tables)) from error
    return schema, written.count


class _Written:
    """Counts the rows that the query yields, and shows them beside those that it has read."""

    def __init__(self, read: Tally) -> None:
        self._read = read
        self.count = 0

    def add(self, rows: int) -> None:
        """So many more are on their way to the file."""
        self.count += rows
        self._read.message = f"running the query: {self.count:,} rows written"
        self._read.add(0)


def _as_text(schema: pl.Schema) -> list[pl.Expr]:
    """All columns as CSV can hold them; Fail names those that it cannot."""
    impossible = [f"`{name}` ({dtype})" for name, dtype in schema.items() if not _fits(dtype)]
    if impossible:
        raise Fail(f"CSV cannot hold {', '.join(impossible)}; the format parquet can")
    return [_text(name, dtype) for name, dtype in schema.items()]


def _fits(dtype: pl.DataType) -> bool:
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object))


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.to_string(STAMP + ("%:z" if dtype.time_zone else ""))
    if isinstance(dtype, pl.Duration):
        return pl.col(name).dt.to_string("iso")
    return pl.col(name)
