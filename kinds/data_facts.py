"""What there is to say about a column of each type: what is asked, drawn, and told in JSON."""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
SHOWN_LENGTH = 100  # characters of a value
BINS = 30  # bars that fit beside each other and still show a shape
MOST_BINS = 60  # of whole numbers, each with its own bar: the minutes of an hour
TAIL = 0.01  # of the values at each end that a plot may leave out to show the others


def is_plain(dtype: pl.DataType) -> bool:
    """Whether values can be compared and counted: no lists, structs or bytes."""
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Null, pl.Unknown))


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def asked(name: str, dtype: pl.DataType) -> dict[str, pl.Expr]:
    """The questions that one streaming pass answers, by the fact's name."""
    column = pl.col(name)
    questions = {"nulls": column.null_count()}
    if not is_plain(dtype):
        return questions
    if _is_text(dtype):
        text = column.cast(pl.String)
        length = text.str.len_chars()
        lengths = pl.struct(min=length.min(), mean=length.mean(), max=length.max())
        return questions | {
            "distinct": text.drop_nulls().approx_n_unique(),
            "min": text.min(),
            "max": text.max(),
            "lengths": lengths,
        }
    questions["distinct"] = column.drop_nulls().approx_n_unique()
    if dtype.is_float():
        questions |= {"nan": column.is_nan().sum(), "infinite": column.is_infinite().sum()}
        column = column.filter(column.is_finite())
    elif dtype.is_decimal():
        column = column.cast(pl.Float64)
    questions |= {"min": column.min(), "max": column.max()}
    if dtype != pl.Time:
        questions["mean"] = column.mean()
    if dtype.is_numeric():
        questions["std"] = column.std()
    return questions


def described(values: pl.Series, dtype: pl.DataType) -> dict[str, Any]:
    """The quantiles of the values, which has a meaning for numbers and times."""
    numbers = _numbers(values, dtype)
    if numbers is None:
        return {}
    found = {name: numbers.quantile(share, "linear") for name, share in QUANTILES.items()}
    return {"quantiles": {name: _back(value, dtype) for name, value in found.items()}}


def _numbers(values: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """The values as finite numbers; None for those that are none, and no times either."""
    if dtype.is_float():
        return values.filter(values.is_finite())
    if dtype.is_numeric():
        return values.cast(pl.Float64)
    return values.to_physical().cast(pl.Int64) if dtype.is_temporal() else None


def _back(number: float | None, dtype: pl.DataType) -> Any:
    if number is None or not dtype.is_temporal():
        return json_value(number)
    return json_value(
        pl.Series([round(number)], dtype=pl.Int64).cast(_physical(dtype)).cast(dtype)[0]
    )


def _physical(dtype: pl.DataType) -> pl.DataType:
    return pl.Int32() if dtype == pl.Date else pl.Int64()


def pictured(values: pl.Series, dtype: pl.DataType) -> dict[str, Any]:
    """A histogram: the edges and counts of its bins, and how many values it leaves out.

    Whole numbers get bins of a whole width, or bars would differ that should not.
    """
    numbers = _numbers(values, dtype)
    if numbers is None or numbers.is_empty():
        return {}
    low, high = _ends(numbers)
    if not math.isfinite(high - low):
        return {}
    whole = not dtype.is_float() and not dtype.is_decimal()
    inside = numbers.filter(numbers.is_between(low, high))
    width, bins = _bins(high - low, whole=whole)
    place = ((inside - low) / width).floor().cast(pl.Int64).clip(0, bins - 1).rename("bin")
    counts = dict(place.value_counts().iter_rows())
    return {
        "low": _back(low, dtype),
        "high": _back(high, dtype),
        "counts": [counts.get(number, 0) for number in range(bins)],
        "edges": [_back(low + number * width, dtype) for number in range(bins + 1)],
        "single": whole and width == 1,
        "left_out": numbers.len() - inside.len(),
    }


def _bins(span: float, *, whole: bool) -> tuple[float, int]:
    """The width of a bin, and how many bins there are."""
    if whole:
        width = 1 if span < MOST_BINS else math.ceil((span + 1) / BINS)
        return width, math.ceil((span + 1) / width)
    return (span / BINS, BINS) if span > 0 else (1.0, 1)


def _ends(numbers: pl.Series) -> tuple[float, float]:
    """From the least to the greatest value, or most of the way if the rest would hide them."""
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    first = float(numbers.quantile(TAIL, "nearest") or 0)
    last = float(numbers.quantile(1 - TAIL, "nearest") or 0)
    crowded = last > first and (last - first) < (high - low) / 2
    return (first, last) if crowded else (low, high)


def json_value(value: Any) -> Any:
    """The value as JSON has it: times in ISO 8601, durations in seconds, text of bounded length."""
    match value:
        case float() | Decimal():
            number = float(value)
            return number if math.isfinite(number) else None
        case str():
            return value if len(value) <= SHOWN_LENGTH else value[:SHOWN_LENGTH] + "…"
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case dict():
            return {key: json_value(each) for key, each in value.items()}
    return value
