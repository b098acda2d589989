import csv
import gzip
import io
import json
import zipfile
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from pydantic import ValidationError

from kinds.data import TransformArgs, transform
from lading.authoring import find_kind
from lading.testing import run
from tests.kinds.tables import (
    AIRPORTS,
    WEATHER,
    flights,
    made,
    made_rows,
    query,
    weather_rows,
    write_table,
)

DELAYS = """
    SELECT carrier, COUNT(*) AS flights, AVG(dep_delay) AS delay
    FROM flights GROUP BY carrier ORDER BY carrier
"""


def test_the_mean_delay_of_each_carrier_is_what_the_records_say() -> None:
    path = flights()
    counts: dict[str, int] = defaultdict(int)
    delays: dict[str, list[int]] = defaultdict(list)
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as member:
        for row in csv.DictReader(io.TextIOWrapper(member, newline="")):
            counts[row["carrier"]] += 1
            if row["dep_delay"] != "NA":
                delays[row["carrier"]].append(int(row["dep_delay"]))
    record = query(DELAYS, {"flights": path})
    found = {row["carrier"]: row for row in made_rows(record)}
    assert record.result["rows_in"] == {"flights": 336_776}
    assert record.result["rows_out"] == len(found) == 16
    assert {name: int(row["flights"]) for name, row in found.items()} == counts
    for carrier, row in found.items():
        assert float(row["delay"]) == pytest.approx(fmean(delays[carrier]))


def test_two_files_are_joined() -> None:
    names = {row["faa"]: row["name"] for row in csv.DictReader(AIRPORTS.open(newline=""))}
    warmest: dict[str, float] = defaultdict(float)
    for row in weather_rows():
        if row["temp"] != "NA":
            warmest[row["origin"]] = max(warmest[row["origin"]], float(row["temp"]))
    record = query(
        """SELECT name, MAX(temp) AS warmest FROM weather
           JOIN airports ON weather.origin = airports.faa GROUP BY name ORDER BY name""",
        {"weather": WEATHER, "airports": AIRPORTS},
    )
    assert record.result["rows_in"] == {"weather": 26_115, "airports": 1458}
    assert record.result["schema"] == {"name": "String", "warmest": "Float64"}
    assert {row["name"]: float(row["warmest"]) for row in made_rows(record)} == {
        names[origin]: temperature for origin, temperature in warmest.items()
    }


def test_the_result_has_what_the_contract_names() -> None:
    record = query("SELECT faa, lat FROM airports LIMIT 3", {"airports": AIRPORTS}, "parquet")
    assert list(record.result) == ["file_id", "rows_in", "rows_out", "schema", "seconds"]
    assert (record.result["rows_in"], record.result["rows_out"]) == ({"airports": 1458}, 3)
    assert record.result["schema"] == {"faa": "String", "lat": "Float64"}
    assert record.result["seconds"] > 0
    assert pl.read_parquet(made(record)).schema == {"faa": pl.String, "lat": pl.Float64}


def test_the_made_file_is_named_after_its_format() -> None:
    for file_format, media_type in [
        ("csv", "text/csv"),
        ("parquet", "application/vnd.apache.parquet"),
    ]:
        record = query("SELECT 1 AS one FROM a LIMIT 1", {"a": AIRPORTS}, file_format)
        assert made(record).is_file()
        (stored,) = [each for each in record.files.values() if each.name.startswith("result")]
        assert (stored.name, stored.media_type) == (f"result.{file_format}", media_type)


PEOPLE = pl.DataFrame(
    {"name": ["Ada", "Emmy", None], "born": [1815, 1882, None], "score": [1.5, None, -2.0]}
)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize("packing", ["", "gz", "zip"])
def test_every_format_is_read_in_every_packing(tmp_path: Path, suffix: str, packing: str) -> None:
    path = write_table(tmp_path / f"people.{suffix}", PEOPLE)
    if packing == "gz":
        path = tmp_path / f"people.{suffix}.gz"
        path.write_bytes(gzip.compress((tmp_path / f"people.{suffix}").read_bytes()))
    elif packing == "zip":
        with zipfile.ZipFile(tmp_path / "people.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
        path = tmp_path / "people.zip"
    record = query("SELECT * FROM p", {"p": path}, "parquet")
    assert pl.read_parquet(made(record)).equals(PEOPLE)
    assert record.result["rows_in"] == {"p": 3}


def test_times_and_texts_come_out_of_csv_as_they_went_in(tmp_path: Path) -> None:
    content = (
        "day,at,text,truth\n"
        '2013-01-02,2013-01-02T03:04:05.25+00:00,"a ""quoted"", long\nline",true\n'
        ",,,\n"
    )
    path = tmp_path / "t.csv"
    path.write_text(content)
    record = query("SELECT * FROM t", {"t": path})
    first, second = made_rows(record)
    assert date.fromisoformat(first["day"]) == date(2013, 1, 2)
    assert datetime.fromisoformat(first["at"]) == datetime(2013, 1, 2, 3, 4, 5, 250_000, UTC)
    assert (first["text"], first["truth"]) == ('a "quoted", long\nline', "true")
    assert set(second.values()) == {""}


def test_a_query_without_rows_makes_a_file_with_a_header() -> None:
    record = query("SELECT faa, name FROM a WHERE lat > 1000", {"a": AIRPORTS})
    assert made(record).read_text() == "faa,name\n"
    assert record.result["rows_out"] == 0


def test_a_file_with_nothing_but_a_header_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    record = query("SELECT COUNT(*) AS n FROM t", {"t": path})
    assert (record.result["rows_in"], made_rows(record)) == ({"t": 0}, [{"n": "0"}])


def test_what_csv_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"id": 1, "tags": ["a", "b"]}) + "\n")
    record = query("SELECT * FROM t", {"t": path})
    assert record.outcome == "failed"
    assert str(record.error) == "CSV cannot hold `tags` (List(String)); the format parquet can"
    assert query("SELECT * FROM t", {"t": path}, "parquet").outcome == "succeeded"


def test_progress_never_goes_back_and_is_counted() -> None:
    record = query(DELAYS, {"flights": flights()})
    fractions = [fraction for fraction, _ in record.progress]
    messages = [message for _, message in record.progress]
    assert fractions == sorted(fractions)
    assert all(0 < fraction < 1 for fraction in fractions)
    assert messages[0] == "unpacking flights.csv.zip"
    assert (0.6, "running the query") in record.progress
    assert record.progress[-1] == (0.98, "16 rows written")


def test_of_a_parquet_file_no_progress_is_claimed(tmp_path: Path) -> None:
    """Polars skips groups of its rows unread, so that those that are read tell nothing."""
    path = write_table(tmp_path / "people.parquet", PEOPLE)
    record = query("SELECT * FROM p", {"p": path})
    assert [fraction for fraction, _ in record.progress if fraction > 0.6] == [0.98]
    assert record.progress[-1] == (0.98, "3 rows written")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT foo FROM airports", "no column `foo` in `airports`; it has: faa, name, lat, lon,"),
        ("SELECT airports.foo FROM airports", "no column `foo` in `airports`; it has: faa, name,"),
        ("SELECT faa FROM airports WHERE tz_name = 1", "no column `tz_name` in `airports`"),
        ("SELECT * FROM airport", "there is no input `airport`"),
        ("SELECT * FROM airports WHERE", "the query is no SQL: Expected: an expression"),
        ("SELECT SUM(name) FROM airports", "the query does not work: `sum` operation not"),
        ("SELECT nothing(faa) FROM airports", "the query does not work: unsupported function"),
        ("SELECT CAST(name AS INT) FROM airports", "the query does not work: conversion from"),
    ],
)
def test_a_query_that_does_not_fit_fails_at_once_and_says_why(sql: str, reason: str) -> None:
    record = query(sql, {"airports": AIRPORTS})
    assert record.outcome == "failed"
    assert str(record.error).startswith(reason)
    assert "/" not in str(record.error)  # no path of a server


def test_a_late_word_in_a_column_of_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("shop,amount\n" + "north,12\n" * 200_000 + "south,abc\n" + "north,12\n" * 5)
    record = query("SELECT SUM(amount) AS total FROM sales", {"sales": path})
    assert record.outcome == "failed"
    assert str(record.error).endswith(
        "(`amount` of sales.csv is text because line 200,002 has 'abc')"
    )
    record = query("SELECT SUM(TRY_CAST(amount AS INT)) AS total FROM sales", {"sales": path})
    assert made_rows(record) == [{"total": str(200_005 * 12)}]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("w.csv", b"a,b,c\n1,2,3\n4,5\n", "line 3 of w.csv has 2 fields, expected 3"),
        ("w.csv", b"a,b\n1,M\xfcller\n", "line 2 of w.csv is not UTF-8: byte 0xfc"),
        ("w.csv", b"", "w.csv is empty"),
        ("w.jsonl", b'{"a": 1}\n{"a": \n', "line 2 of w.jsonl is no JSON: Expecting value"),
        ("w.parquet", b"PAR1 and then nothing", "w.parquet is damaged"),
        ("w.csv", b"PK\x03\x04....", "w.csv is a zip archive, in spite of its name"),
        ("w.xlsx", b"PK\x03\x04....", "w.xlsx: its name must end in .csv, .tsv, .parquet,"),
        ("w.csv.gz", b"\x1f\x8b\x08\x00 and so on", "w.csv.gz is damaged"),
    ],
)
def test_a_broken_file_fails_at_once_and_says_where(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    record = query("SELECT * FROM w", {"w": path})
    assert record.outcome == "failed"
    assert str(record.error).startswith(reason)


def test_a_file_that_is_not_there_fails_the_job() -> None:
    args = {"inputs": {"t": str(uuid4())}, "sql": "SELECT * FROM t", "format": "csv"}
    assert run(transform, args).outcome == "failed"


VALID: dict[str, Any] = {
    "inputs": {"t": "01930f4e-7c1a-7d2b-9c64-1f0a8a2f7b11"},
    "sql": "SELECT 1 FROM t",
    "format": "csv",
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"inputs": {}}, "inputs"),
        ({"inputs": {"a b": str(uuid4())}}, "inputs"),
        ({"inputs": {"read_csv": str(uuid4())}}, "inputs"),
        ({"inputs": {"t": "no id"}}, "inputs"),
        ({"inputs": {f"t{number}": str(uuid4()) for number in range(17)}}, "inputs"),
        ({"sql": ""}, "sql"),
        ({"sql": "x" * 20_001}, "sql"),
        ({"format": "xlsx"}, "format"),
        ({"output": "elsewhere"}, "output"),
    ],
)
def test_args_that_make_no_sense_are_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TransformArgs.model_validate(VALID | change)
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_the_kind_runs_on_processes_with_a_limit() -> None:
    kind = find_kind(transform)
    assert kind is not None
    assert (kind.name, kind.queue, kind.max_attempts) == ("data.transform", "default", 5)
    assert kind.timeout is not None
    assert set(kind.args_model.model_json_schema()["properties"]) == {"inputs", "sql", "format"}
