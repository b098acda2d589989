import csv
import io
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading import Fail
from tests.kinds.tables import opened, rows, types

# No number, no date: such a field stays text, and can be compared as it was.
FIELD = st.just("") | st.text(alphabet='xé€😀 ,;|\t"\n\r', max_size=6).map("{}x".format)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b,c\n1,2,3\n1,2\n", "line 3 of t.csv has 2 fields, expected 3"),
        (b"a,b,c\n1,2,3\n1\n", "line 3 of t.csv has 1 field, expected 3"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 of t.csv has 3 fields, expected 2"),
        (b"a,b,c\n1,2,3,4\n1,2\n", "line 2 of t.csv has 4 fields, expected 3"),  # the sum is right
        (b'a,b\n"x\ny",2\n1\n', "line 4 of t.csv has 1 field, expected 2"),
        (b"a,b\n1,2\n   \n", "line 3 of t.csv has 1 field, expected 2"),
        (b"a,b\n1,\xff\n", "line 2 of t.csv is not UTF-8: byte 0xff"),
        (b"a,b\n" + b"1,2\n" * 400_000 + b"\xc3\n", "line 400,002 of t.csv is not UTF-8"),
        (b"a,b\n1,\xc3", "line 2 of t.csv is not UTF-8: byte 0xc3"),
        (b"a,b\n1,\0\n", "line 2 of t.csv holds a NUL: no text"),
        (b'a,b\n1,2\n1,"x\n3,4\n', "line 3 of t.csv opens a quote that is never closed"),
        (b'a,b\n1,"x"y\n', "line 2 of t.csv goes on after a closing quote"),
        (b"a,b\r1,2\r", "t.csv ends its lines with a carriage return alone; \\n is read"),
        (b"\n\n", "t.csv is empty"),
        (b"a" * 1_100_000, "the first line of t.csv is longer than 1,048,576 bytes"),
        (b"," * 2000 + b"\n", "t.csv has 2,001 columns; 2,000 are read"),
    ],
)
def test_a_broken_text_is_refused_with_its_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(Fail) as refused:
        opened(tmp_path, "t.csv", content)
    assert refused.value.reason.startswith(reason)


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y\r\n",
        b"a,b\n1,x\n2,y",
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b"a;b\n1;x\n2;y\n",
        b"a\tb\n1\tx\n2\ty\n",
        b"a|b\n1|x\n2|y\n",
        b' a , b \n 1,"x"\n2 ,y\n',
        b"a,b\n\n1,x\n\n2,y\n\n\n",
        b"\r\n\r\na,b\r\n1,x\r\n\r\n2,y\r\n",
    ],
)
def test_the_same_table_in_many_hands(tmp_path: Path, content: bytes) -> None:
    table = opened(tmp_path, "t.csv", content)
    assert (types(table), table.rows) == ({"a": "Int64", "b": "String"}, 2)
    assert rows(table) == [(1, "x"), (2, "y")]


def test_quoted_fields_keep_lines_delimiters_and_quotes(tmp_path: Path) -> None:
    content = b'a,b\n"x,\n\n\ny","say ""hi"""\n\n"","5"" pipe"\n5" p,q"r"s\n'
    table = opened(tmp_path, "t.csv", content)
    assert rows(table) == [("x,\n\n\ny", 'say "hi"'), (None, '5" pipe'), ('5" p', 'q"r"s')]
    assert table.rows == 3


@given(
    records=st.lists(st.lists(FIELD, min_size=3, max_size=3), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote_all=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=100, deadline=None)  # a busy machine is no failure
def test_whatever_python_writes_is_read_the_same(
    records: list[list[str]], delimiter: str, quote_all: bool, line_end: str
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=delimiter,
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
        lineterminator=line_end,
    )
    writer.writerows([["a", "b", "c"], *records])
    with tempfile.TemporaryDirectory() as folder:
        table = opened(Path(folder), "t.csv", out.getvalue().encode())
        assert rows(table) == [tuple(field or None for field in record) for record in records]
        assert table.rows == len(records)


def test_an_inch_sign_within_a_field_is_a_character(tmp_path: Path) -> None:
    content = b'size,n\n5" pipe,1\n7 pipe,2\n6" pipe,3\n'
    table = opened(tmp_path, "t.csv", content)
    assert rows(table) == [('5" pipe', 1), ("7 pipe", 2), ('6" pipe', 3)]


def test_a_text_is_read_in_full_even_if_nothing_in_it_is_a_number(tmp_path: Path) -> None:
    content = b"a,b\n" + b"x,y\n" * 5000 + b'5" pipe,y\n'
    table = opened(tmp_path, "t.csv", content)
    assert rows(table)[-1] == ('5" pipe', "y")
    assert table.rows == 5001


def test_a_quoted_field_longer_than_a_piece_is_whole(tmp_path: Path) -> None:
    long = "one, two\n" * 300_000  # 2.7 MB
    table = opened(tmp_path, "t.csv", f'a,b\n"{long}",2\n3,4\n'.encode())
    assert [(len(a), b) for a, b in rows(table)] == [(len(long), 2), (1, 4)]


def test_columns_without_a_name_or_with_a_taken_one_get_one(tmp_path: Path) -> None:
    table = opened(tmp_path, "t.csv", b"a,,a,a_2\n1,2,3,4\n")
    assert list(table.columns) == ["a", "column_2", "a_2", "a_2_2"]
    assert rows(table) == [(1, 2, 3, 4)]


def test_each_column_is_what_all_of_its_values_are(tmp_path: Path) -> None:
    content = (
        "whole,real,truth,day,at,local,text,none,code\n"
        "1,1.5,true,2013-01-02,2013-01-02T03:04:05Z,2013-01-02 03:04,x,NA,007\n"
        "-2,2,FALSE,,2013-01-02T03:04:05.5+02:00,,NA,,8\n"
        "NA,1e3,NA,NA,NA,null,,null,N/A\n"
    )
    table = opened(tmp_path, "t.csv", content.encode())
    assert table.columns == {
        "whole": pl.Int64,
        "real": pl.Float64,
        "truth": pl.Boolean,
        "day": pl.Date,
        "at": pl.Datetime("us", "UTC"),
        "local": pl.Datetime("us"),
        "text": pl.String,
        "none": pl.String,
        "code": pl.Int64,
    }
    late = datetime(2013, 1, 2, 1, 4, 5, 500_000, UTC)
    assert rows(table)[1] == (-2, 2.0, False, None, late, None, "NA", None, 8)
    assert rows(table)[2] == (None, 1000.0, None, None, None, None, None, None, None)
    assert rows(table)[0][3:6] == (
        date(2013, 1, 2),
        datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2013, 1, 2, 3, 4),  # noqa: DTZ001 - the file says no zone
    )


@pytest.mark.parametrize(
    ("early", "late", "dtype"),
    [
        ("1", "2.5", pl.Float64),
        ("1", "x", pl.String),
        ("2.5", "-", pl.String),
        ("true", "1", pl.String),
        ("2013-01-02", "2013-02-30", pl.String),
        ("", "7", pl.Int64),
        ("2013-01-02 03:04:05", "2013-01-02 03:04:05.1", pl.Datetime("us")),
    ],
)
def test_a_late_value_counts_as_much_as_the_first(
    tmp_path: Path, early: str, late: str, dtype: pl.DataType
) -> None:
    content = "a,b\n" + f"{early},1\n" * 5000 + f"{late},1\n" + f"{early},1\n" * 3
    table = opened(tmp_path, "t.csv", content.encode())
    assert table.columns["a"] == dtype
    assert len(rows(table)) == table.rows == 5004
    expected = {"a": f"line 5,002 has {late!r}"} if dtype == pl.String else {}
    assert table.reasons == expected


@pytest.mark.parametrize(
    "values",
    [
        ("1", "12345678901234567890"),  # beyond 64 bits
        ("1.5", "9007199254740993"),  # a whole number that a float changes
        ("2013-01-02 03:04:05.123456", "2013-01-02 03:04:05.1234567"),  # beyond microseconds
    ],
)
def test_what_a_type_would_change_stays_text(tmp_path: Path, values: tuple[str, str]) -> None:
    table = opened(tmp_path, "t.csv", "\n".join(["a", *values]).encode())
    assert rows(table) == [(value,) for value in values]


def test_where_lines_and_rows_differ_the_row_is_named(tmp_path: Path) -> None:
    table = opened(tmp_path, "t.csv", b'a,b\n1,"x\ny"\n2,z\nthree,z\n')
    assert table.reasons == {"a": "row 3 has 'three'"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2 of t.jsonl is no JSON: Expecting value, at character"),
        (b'{"a": 1}\n[1]\n', "line 2 of t.jsonl is no JSON object"),
        (b'{"a": 1}\n{"a": NaN}\n', "line 2 of t.jsonl is no JSON: NaN is no JSON value"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2 of t.jsonl is not UTF-8"),
        (b'{"a": 1}\n\n{"a": true}\n', "line 3 of t.jsonl has true or false as `a`, line 1 has a"),
        (b'{"a": [1]}\n{"a": {}}\n', "line 2 of t.jsonl has an object as `a`, line 1 has a list"),
        (b"\n \n", "t.jsonl is empty"),
    ],
)
def test_a_broken_line_of_json_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(Fail) as refused:
        opened(tmp_path, "t.jsonl", content)
    assert refused.value.reason.startswith(reason)


def test_lines_of_json_agree_over_many_blocks(tmp_path: Path) -> None:
    """Whole numbers first, and 9 MB later a fraction, a text and a new key."""
    pad = "x" * 1000
    first = f'{{"a": 1, "b": 2, "pad": "{pad}"}}\n' * 9000
    last = '{"a": 2.5, "b": "two", "c": {"d": [1]}}\n\n'
    table = opened(tmp_path, "t.jsonl", (first + last).encode())
    assert types(table) == {
        "a": "Float64",
        "b": "String",
        "pad": "String",
        "c": "Struct({'d': List(Int64)})",
    }
    assert len(rows(table)) == table.rows == 9001
    assert rows(table)[-1] == (2.5, "two", None, {"d": [1]})


def test_a_contradiction_between_blocks_is_named(tmp_path: Path) -> None:
    pad = "x" * 1000
    content = f'{{"a": 1, "pad": "{pad}"}}\n' * 9000 + '{"a": [2]}\n'
    with pytest.raises(Fail) as refused:
        opened(tmp_path, "t.jsonl", content.encode())
    assert refused.value.reason == "line 9,001 of t.jsonl has a list as `a`, line 1 has a number"


def test_a_table_has_no_more_columns_than_a_result_can_name(tmp_path: Path) -> None:
    line = ", ".join(f'"c{number}": {number}' for number in range(2001))
    with pytest.raises(Fail, match="has 2,001 columns; 2,000 are read"):
        opened(tmp_path, "t.jsonl", f"{{{line}}}\n".encode())
