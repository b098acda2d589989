import gzip
import json
import math
import statistics
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from pydantic import ValidationError

from kinds import data_profile
from kinds.data import ProfileArgs, profile
from kinds.data_profile import profile as profile_here
from kinds.data_progress import Channel
from lading.testing import Run, run
from tests.kinds.tables import WEATHER, made, quiet_phase, weather_rows, write_table


def profiled(path: Path) -> Run:
    file_id = uuid4()
    return run(profile, {"file_id": str(file_id)}, files={file_id: path})


def profiled_here(folder: Path, path: Path) -> dict[str, Any]:
    """The same in this process, where its numbers can be changed."""
    task = {"inputs": {"file": {"path": str(path), "name": path.name}}}
    channel: Channel = quiet_phase().channel
    return profile_here(task, folder, channel)


def test_the_weather_s_profile_is_what_its_records_say() -> None:
    record = profiled(WEATHER)
    assert record.result["rows"] == 26_115
    columns = record.result["columns"]
    assert list(columns) == list(weather_rows()[0])
    texts = [row["temp"] for row in weather_rows()]
    values = [float(text) for text in texts if text != "NA"]
    temperature = columns["temp"]
    assert (temperature["type"], temperature["nulls"]) == ("Float64", texts.count("NA"))
    assert temperature["distinct"] == len(set(values))
    assert (temperature["min"], temperature["max"]) == (min(values), max(values))
    assert temperature["mean"] == pytest.approx(statistics.fmean(values))
    assert temperature["std"] == pytest.approx(statistics.stdev(values))
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    for name, number in [("p05", 5), ("p25", 25), ("p50", 50), ("p75", 75), ("p95", 95)]:
        assert temperature["quantiles"][name] == pytest.approx(percentiles[number - 1])
    top = Counter(values).most_common(10)
    assert [each["count"] for each in temperature["top"]] == [count for _, count in top]
    assert temperature["top"][0]["value"] == top[0][0]


def test_texts_and_times_have_facts_of_their_own() -> None:
    columns = profiled(WEATHER).result["columns"]
    assert columns["origin"] == {
        "type": "String",
        "nulls": 0,
        "distinct": 3,
        "min": "EWR",
        "max": "LGA",
        "lengths": {"min": 3, "mean": 3.0, "max": 3},
        "sample": 26_115,
        "top": [
            {"value": "JFK", "count": 8706},
            {"value": "LGA", "count": 8706},
            {"value": "EWR", "count": 8703},
        ],
    }
    hours = columns["time_hour"]
    assert (hours["min"], hours["max"]) == (
        "2013-01-01T06:00:00+00:00",
        "2013-12-30T23:00:00+00:00",
    )
    assert hours["quantiles"]["p50"].startswith("2013-07-01T")


ODD = pl.DataFrame(
    {
        "float": [1.0, math.nan, math.inf, None],
        "text": ["<script>alert(1)</script>", "&amp;", "x" * 1000, None],
        "truth": [True, False, None, True],
        "many": [[1], [], None, [2, 3]],
        "raw": [b"\x00", None, b"\xff", b""],
        "none": [None, None, None, None],
        "money": pl.Series(["1.25", None, "-3.50", "0"]).cast(pl.Decimal(10, 2)),
        "lasted": pl.Series([1, 2, None, 4]).cast(pl.Duration("ms")),
        "kind": pl.Series(["a", "b", "a", None], dtype=pl.Categorical),
        '"><img src=x onerror=alert(1)>': [1, 2, 3, 4],
    }
)


def test_whatever_a_column_holds_its_facts_are_json(tmp_path: Path) -> None:
    record = profiled(write_table(tmp_path / "odd.parquet", ODD))
    assert record.outcome == "succeeded", record.error
    columns = json.loads(json.dumps(record.result["columns"], allow_nan=False))
    assert list(columns) == ODD.columns
    assert (columns["float"]["nan"], columns["float"]["infinite"]) == (1, 1)
    assert (columns["float"]["min"], columns["float"]["max"]) == (1.0, 1.0)
    assert columns["truth"]["top"][0] == {"value": True, "count": 2}
    assert columns["many"] == {"type": "List(Int64)", "nulls": 1}
    assert (columns["none"]["nulls"], columns["raw"]["nulls"]) == (4, 1)
    assert columns["money"]["mean"] == pytest.approx(-0.75)
    assert columns["lasted"]["max"] == 0.004
    assert columns["kind"]["top"][0] == {"value": "a", "count": 2}
    assert max(len(each["value"]) for each in columns["text"]["top"]) == 101


class Page(HTMLParser):
    """What a browser would make of the report: its tags, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_shows_values_and_obeys_none(tmp_path: Path) -> None:
    record = profiled(write_table(tmp_path / "odd.parquet", ODD))
    source = made(record, "report_file_id").read_text()
    page = Page(source)
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.tags)
    assert not any(name.startswith("on") or name == "src" for name in page.attributes)
    assert "default-src 'none'" in source
    assert "<script>alert(1)</script>"[:25] in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text


def test_the_report_is_one_file_with_plots() -> None:
    record = profiled(WEATHER)
    (report,) = [each for each in record.files.values() if each.media_type == "text/html"]
    assert report.name == "weather.profile.html"
    source = report.path.read_text()
    page = Page(source)
    assert page.tags["section"] == 15
    assert page.tags["svg"] >= 15
    assert page.tags["rect"] > 300
    assert "26,115 rows · 15 columns" in page.text
    assert "prefers-color-scheme: dark" in source
    assert "http" not in source.replace("http-equiv", "")


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    """20,000 rows: a few values, many values, and one that is twice as frequent as all others."""
    frame = pl.DataFrame(
        {
            "few": [number % 7 for number in range(20_000)],
            "id": [f"id-{number}" for number in range(20_000)],
            "skewed": ["often" if number % 50 == 0 else f"v{number}" for number in range(20_000)],
            "real": [float(number) for number in range(20_000)],
        }
    )
    return write_table(tmp_path / "long.csv", frame)


def test_a_long_table_is_sampled_for_quantiles_and_counted_for_the_rest(
    tmp_path: Path, long_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_profile, "SAMPLE_ROWS", 2000)
    monkeypatch.setattr(data_profile, "SAMPLE_BYTES", 40_000)  # one or two columns at a time
    monkeypatch.setattr(data_profile, "FEW_VALUES", 1000)
    columns = profiled_here(tmp_path, long_table)["columns"]
    assert all(1300 < each["sample"] < 2500 for each in columns.values())
    assert columns["few"]["distinct"] == 7
    assert columns["few"]["top"][0] == {"value": 0, "count": 2858}
    assert columns["id"]["top"] == []
    assert columns["skewed"]["top"][0] == {"value": "often", "count": 400}
    assert columns["id"]["distinct"] == pytest.approx(20_000, rel=0.15)
    assert columns["real"]["mean"] == pytest.approx(9999.5)
    assert columns["real"]["quantiles"]["p50"] == pytest.approx(10_000, rel=0.1)
    report = (tmp_path / "report").read_text()
    assert "rows, drawn evenly" in report


def test_a_result_stays_below_its_limit(
    tmp_path: Path, long_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = profiled_here(tmp_path, long_table)["columns"]
    limit = len(json.dumps(whole)) - 100
    monkeypatch.setattr(data_profile, "RESULT_BYTES", limit)
    columns = profiled_here(tmp_path, long_table)["columns"]
    assert (len(whole["few"]["top"]), len(columns["few"]["top"])) == (7, 5)
    assert len(json.dumps(columns)) <= limit


def test_a_table_without_rows_has_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    record = profiled(path)
    assert record.result["rows"] == 0
    assert record.result["columns"]["a"]["nulls"] == 0
    assert "0 rows · 2 columns" in made(record, "report_file_id").read_text()


def test_a_text_that_is_nearly_a_number_says_why_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 2000 + "one\n")
    record = profiled(path)
    assert record.result["columns"]["a"]["type"] == "String"
    page = Page(made(record, "report_file_id").read_text())
    assert "Text because line 2,002 has 'one'." in page.text


def test_a_broken_file_fails_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1\n"))
    record = profiled(path)
    assert (record.outcome, str(record.error)) == (
        "failed",
        "line 2 of t.csv has 1 field, expected 2",
    )


def test_progress_never_goes_back() -> None:
    fractions = [fraction for fraction, _ in profiled(WEATHER).progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.98


def test_a_profile_needs_a_file() -> None:
    with pytest.raises(ValidationError):
        ProfileArgs.model_validate({})
    with pytest.raises(ValidationError):
        ProfileArgs.model_validate({"file_id": str(uuid4()), "depth": 3})
    assert run(profile, {"file_id": str(uuid4())}).outcome == "failed"
