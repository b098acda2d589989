"""What stands on the command line, as values: JSON, durations, times, labels."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from lading.cli.words import seconds_of


def read_json(text: str, option: str) -> Any:
    """The JSON in the text, in the file behind an @, or on stdin (@-)."""
    if text.startswith("@"):
        text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"no JSON: {error}", param_hint=option) from None


def read_object(text: str, option: str) -> dict[str, Any]:
    """The JSON object there."""
    found = read_json(text, option)
    if not isinstance(found, dict):
        raise typer.BadParameter("a JSON object is needed: {…}", param_hint=option)
    return found


def read_labels(given: Sequence[str]) -> dict[str, str]:
    """`name=value` pairs."""
    for each in given:
        if "=" not in each.lstrip("="):
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE", param_hint="--label")
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def duration(text: str) -> float:
    """Seconds."""
    try:
        return seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def time(text: str) -> datetime:
    """Without an offset it is the time here."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: 2030-01-31T12:00:00+01:00") from None
    return found.astimezone()


def duration_option(help_: str) -> Any:
    return typer.Option(parser=duration, metavar="DURATION", help=help_)


def time_option(help_: str) -> Any:
    return typer.Option(parser=time, metavar="TIME", help=help_)


def given(**values: Any) -> dict[str, Any]:
    """Those that the command line says."""
    return {name: value for name, value in values.items() if value not in (None, {}, [])}
