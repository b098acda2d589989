"""What the tests of the data kinds share: their files, and a table opened in this process."""

import csv
import gzip
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import polars as pl
import pytest

from kinds.data import transform
from kinds.data_progress import Channel, Phase
from kinds.data_sources import FORMATS, Source
from kinds.data_tables import Table, open_table
from lading.testing import Run, run

DATA = Path(__file__).parent.parent / "data"
WEATHER, AIRPORTS = DATA / "weather.csv.gz", DATA / "airports.csv"
BESIDE = Path(__file__).parents[3] / "shared/data/nycflights13/flights.csv.zip"


def flights() -> Path:
    """The flights of 2013, or the test is skipped."""
    path = Path(os.environ.get("LADING_TEST_FLIGHTS", BESIDE))
    if not path.is_file():
        pytest.skip("flights.csv.zip is not there: LADING_TEST_FLIGHTS names none")
    return path


def weather_rows() -> list[dict[str, str]]:
    with gzip.open(WEATHER, "rt", newline="") as file:
        return list(csv.DictReader(file))


def query(sql: str, files: Mapping[str, Path], file_format: str = "csv") -> Run:
    """One attempt of data.transform over files, by the names of the inputs."""
    ids = {name: uuid4() for name in files}
    inputs = {name: str(file_id) for name, file_id in ids.items()}
    args = {"inputs": inputs, "sql": sql, "format": file_format}
    return run(transform, args, files={ids[name]: path for name, path in files.items()})


def made(record: Run, key: str = "file_id") -> Path:
    """Where the file lies that the attempt has made."""
    assert record.outcome == "succeeded", record.error
    return record.files[UUID(record.result[key])].path


def made_rows(record: Run) -> list[dict[str, Any]]:
    """The rows of the CSV that the attempt has made."""
    with made(record).open(newline="") as file:
        return list(csv.DictReader(file))


def quiet_phase() -> Phase:
    return Phase(Channel(os.open(os.devnull, os.O_WRONLY)), 0, 1)


def opened(folder: Path, name: str, content: bytes) -> Table:
    """The table in a file of that name, opened as the engine does."""
    path = folder / name
    path.write_bytes(content)
    return open_table(Source("t", name, path, FORMATS[path.suffix]), folder, quiet_phase())


def rows(table: Table) -> list[tuple[Any, ...]]:
    return table.frame().collect(engine="streaming").rows()


def types(table: Table) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in table.columns.items()}


def write_table(path: Path, frame: pl.DataFrame) -> Path:
    """The frame as a file of the format that its name says."""
    match path.suffix:
        case ".parquet":
            frame.write_parquet(path)
        case ".jsonl":
            frame.write_ndjson(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case _:
            frame.write_csv(path)
    return path
