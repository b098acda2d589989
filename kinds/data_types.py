"""What the columns of a text are: decided by all of their values, never by the first ones.

A sample says what a column may be; then every value is tried. One that does not fit makes the
column text, and is remembered with its place for whoever wonders why. Reading changes no value:
what a 64-bit integer, a float or a microsecond cannot hold stays text.

Empty fields are null. So are NA, null and their like, but in columns of numbers, dates and truth
values only: in a column of text, NA may be Namibia.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from kinds.data_csv import Survey

SAMPLE = 1000  # values that say what is worth trying
LIKELY = 0.5  # of a sample; with fewer numbers than that it is text that holds some numbers
NULLS = ["", "NA", "N/A", "n/a", "null", "NULL", "None", "\\N"]
TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DATE = "%Y-%m-%d"
# RFC 3339 and its relatives: T or a blank, seconds or none, a fraction or none, an offset or none.
TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?P<between>[T ])\d\d:\d\d(?P<seconds>:\d\d(\.\d{1,6})?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?"
)
BEYOND_FLOAT = r"^[+-]?\d{16,}$"  # 2^53 has 16 digits; from there on floats skip whole numbers
BEYOND_TIME = r"\.\d{7}"  # finer than a microsecond
ROW = "\N{NO-BREAK SPACE}row"  # the name of a column beside those of the file


@dataclass(frozen=True, slots=True)
class TextType:
    """One way to read text: `integer`, `float`, `boolean`, `date`, `time`, `text` or `nothing`."""

    name: str
    format: str = ""  #: of a time
    padded: bool = False  #: whether there are blanks around values

    def read(self, column: str) -> pl.Expr:
        """The column's values as this type; null where there is none."""
        value = pl.col(column)
        if self.name == "text":
            return pl.when(value != "").then(value).alias(column)
        if self.name == "nothing":
            return pl.when(pl.lit(value=False)).then(value).alias(column)
        return self.parse(value.str.strip_chars() if self.padded else value)

    def parse(self, value: pl.Expr) -> pl.Expr:
        """Text as this type; null where it is none."""
        match self.name:
            case "integer":
                return value.cast(pl.Int64, strict=False)
            case "float":
                return value.cast(pl.Float64, strict=False)
            case "boolean":
                return value.replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
            case "date":
                return value.str.to_date(DATE, strict=False)
            case _:
                return value.str.to_datetime(self.format, time_unit="us", strict=False)

    def missed(self, value: pl.Expr) -> pl.Expr:
        """Whether the text is not, or not without loss, of this type."""
        none = self.parse(value).is_null()
        match self.name:
            case "float":
                return none | value.str.contains(BEYOND_FLOAT)
            case "time":
                return none | value.str.contains(BEYOND_TIME)
            case _:
                return none


TEXT = TextType("text")
NOTHING = TextType("nothing")  # a column without a value: text, all of it null
FLOAT = TextType("float")
TRIED = (TextType("integer"), FLOAT, TextType("boolean"), TextType("date"))


@dataclass(frozen=True, slots=True)
class Typing:
    """The types of all columns, and why some are text although much in them is not."""

    types: dict[str, TextType]
    reasons: dict[str, str]

    def read(self) -> list[pl.Expr]:
        """All columns, as what they are."""
        return [each.read(name) for name, each in self.types.items()]


def decide_types(raw: pl.LazyFrame, survey: Survey) -> Typing:
    """The types of the columns of `raw`, which holds the text as it stands in the file."""
    types = {name: _likely(values) for name, values in _samples(raw, survey.names).items()}
    reasons: dict[str, str] = {}
    pending = {name: each for name, each in types.items() if each not in (TEXT, NOTHING)}
    while True:
        odd = {name: pending[name] for name in _with_odd_values(raw, pending)}
        pending = {}
        for name, trial in _look_closely(raw, odd).items():
            if not trial["missed"]:
                types[name] = replace(types[name], padded=True)
            elif types[name].name == "integer":
                types[name] = pending[name] = FLOAT
            else:
                types[name] = TEXT
                reasons[name] = f"{survey.place(trial['row'])} has {_shown(trial['value'])}"
        if not pending:
            return Typing(types, reasons)


def _samples(raw: pl.LazyFrame, names: list[str]) -> dict[str, pl.Series]:
    """The first values of each column that are not null, without blanks around them."""
    head = raw.head(SAMPLE).collect(engine="streaming")
    samples = {name: _given(head[name]) for name in names}
    for name in [name for name, values in samples.items() if values.is_empty()]:
        given = pl.col(name).filter(~pl.col(name).str.strip_chars().is_in(NULLS))
        found = raw.select(given).head(SAMPLE).collect(engine="streaming")
        samples[name] = _given(found[name])
    return samples


def _given(values: pl.Series) -> pl.Series:
    stripped = values.str.strip_chars()
    return stripped.filter(~stripped.is_in(NULLS))


def _likely(values: pl.Series) -> TextType:
    """The type that most of these values have, or TEXT; NOTHING if there is none."""
    if values.is_empty():
        return NOTHING
    match = next((found for value in values if (found := TIME.fullmatch(value))), None)
    tried = (*TRIED, TextType("time", _format(match))) if match else TRIED
    frame = pl.DataFrame({"value": values})
    shares = [1 - frame.select(each.missed(pl.col("value")).mean()).item() for each in tried]
    best = max(shares)
    return tried[shares.index(best)] if best >= LIKELY else TEXT


def _format(match: re.Match[str]) -> str:
    seconds = ":%S%.f" if match["seconds"] else ""
    return f"{DATE}{match['between']}%H:%M{seconds}{'%#z' if match['offset'] else ''}"


def _with_odd_values(raw: pl.LazyFrame, tried: dict[str, TextType]) -> list[str]:
    """The columns with a value that is neither of the type tried nor null as it stands.

    All rows are read, whatever is tried: a fault in the text shows here, or never.
    """
    asked = [pl.first().str.len_bytes().sum().alias(ROW)]
    asked += [
        pl.col(name).filter(each.missed(pl.col(name))).is_in(NULLS).not_().any().alias(name)
        for name, each in tried.items()
    ]
    found = raw.select(asked).collect(engine="streaming").row(0, named=True)
    return [name for name in tried if found[name]]


def _look_closely(raw: pl.LazyFrame, tried: dict[str, TextType]) -> dict[str, dict[str, Any]]:
    """For each column how many values were missed, blanks around them aside, and the first one."""
    if not tried:
        return {}
    asked = []
    for name, each in tried.items():
        odd = each.missed(pl.col(name))
        rest = pl.col(name).filter(odd).str.strip_chars()
        missed = each.missed(rest) & ~rest.is_in(NULLS)
        trial = pl.struct(
            missed=missed.sum(),
            value=rest.filter(missed).first(),
            row=pl.col(ROW).filter(odd).filter(missed).min(),
        )
        asked.append(trial.alias(name))
    frame = raw.with_row_index(ROW).select(asked)
    found: dict[str, dict[str, Any]] = frame.collect(engine="streaming").row(0, named=True)
    return found


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")  # noqa: PLR2004 - one line
