"""The profile as one HTML page: no script, nothing from elsewhere, every value escaped.

Plots are inline SVG: a histogram for numbers and times, bars for the most frequent values. Light
or dark is the reader's choice; printed, it is light.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

WIDTH, HEIGHT = 320, 110  # of a plot, in its own units
LABEL_LENGTH = 26  # characters of a value beside its bar
ROW = 18  # the height of one bar and its label


class Column(Protocol):
    """What the report shows of a column."""

    name: str
    facts: dict[str, Any]
    picture: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a plot, in the plot's units, and what it says when asked."""

    x: float
    y: float
    width: float
    height: float
    label: str
    count: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A column as the page has it."""

    name: str
    anchor: str
    type: str
    missing: float  #: share of all rows, 0 … 1
    facts: list[tuple[str, str]]
    histogram: list[Bar]
    low: str
    high: str
    top: list[Bar]
    notes: list[str]


def write_report(
    target: Path, label: str, rows: int, columns: Sequence[Column], reasons: Mapping[str, str]
) -> None:
    """The page is in the file `target`."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("data_report.html").render(
        label=label,
        rows=f"{rows:,}",
        columns=[
            _shown(number, column, rows, reasons) for number, column in enumerate(columns, start=1)
        ],
        width=WIDTH,
        height=HEIGHT,
        row=ROW,
    )
    target.write_text(page, encoding="utf-8")


def _shown(number: int, column: Column, rows: int, reasons: Mapping[str, str]) -> Shown:
    facts, picture = column.facts, column.picture
    return Shown(
        name=column.name,
        anchor=f"column-{number}",
        type=facts["type"],
        missing=facts["nulls"] / rows if rows else 0.0,
        facts=_facts(facts),
        histogram=_histogram(picture),
        low=readable(picture.get("low")),
        high=readable(picture.get("high")),
        top=_top(facts.get("top", [])),
        notes=_notes(column, rows, reasons),
    )


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = [("missing", facts["nulls"])]
    if "distinct" in facts:
        shown.append(("distinct", facts["distinct"]))
    shown += [(key, facts[key]) for key in ("nan", "infinite") if facts.get(key)]
    shown += [(key, facts[key]) for key in ("min", "mean", "max", "std") if key in facts]
    shown += list(facts.get("quantiles", {}).items())
    lengths = facts.get("lengths", {})
    shown += [(f"{key} length", lengths[key]) for key in ("min", "mean", "max") if key in lengths]
    return [(name, readable(value)) for name, value in shown]


def _notes(column: Column, rows: int, reasons: Mapping[str, str]) -> list[str]:
    notes = []
    if column.name in reasons:
        notes.append(f"Text because {reasons[column.name]}.")
    sample = column.facts.get("sample", rows)
    if sample < rows and "quantiles" in column.facts:
        notes.append(f"Quantiles and plot are of {sample:,} rows, drawn evenly.")
    if left_out := column.picture.get("left_out"):
        notes.append(f"The plot leaves out {left_out:,} values at its ends.")
    return notes


def _histogram(picture: Mapping[str, Any]) -> list[Bar]:
    counts: list[int] = picture.get("counts", [])
    most = max(counts, default=0)
    if not most or len(counts) == 1:
        return []
    step = WIDTH / len(counts)
    edges = [readable(edge) for edge in picture["edges"]]
    return [
        Bar(
            x=round(number * step + step * 0.05, 2),
            y=round(HEIGHT - HEIGHT * count / most, 2),
            width=round(step * 0.9, 2),
            height=round(HEIGHT * count / most, 2),
            label=edges[number] if picture["single"] else f"{edges[number]} … {edges[number + 1]}",
            count=f"{count:,}",
        )
        for number, count in enumerate(counts)
    ]


def _top(top: Sequence[Mapping[str, Any]]) -> list[Bar]:
    most = max((each["count"] for each in top), default=0)
    return [
        Bar(
            x=0,
            y=number * ROW,
            width=round(max(WIDTH * 0.36 * each["count"] / most, 1), 2),
            height=ROW - 5,
            label=_short(readable(each["value"])),
            count=f"{each['count']:,}",
        )
        for number, each in enumerate(top)
    ]


def _short(text: str) -> str:
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"


def readable(value: Any) -> str:
    """A fact as people read it: thousands apart (not in years), six digits at most."""
    match value:
        case None:
            return "–"
        case bool():
            return "true" if value else "false"
        case int() | float() if abs(value) < 10_000:  # noqa: PLR2004
            return f"{value:.6g}"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"  # noqa: PLR2004
    return str(value)
