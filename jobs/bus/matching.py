"""Whether an event's content is what a trigger waits for: conditions on paths, all of which hold.

    {"data.plan": "pro", "data.country": {"in": ["DE", "FR"]}, "data.email": {"prefix": "a"},
     "data.referrer": {"exists": false}, "extensions.tenant": "eu"}

A path is dotted and begins at the event: `data`, an attribute's name, or `extensions`; a number
leads into a list. A value alone means equality.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.bus.envelope import ATTRIBUTES
from jobs.errors import Flaw

MOST_CONDITIONS = 32
MOST_CHOICES = 100  # of an `in`
LONGEST_PATH = 255  # characters
OPERATORS = ("equals", "prefix", "in", "exists")
ROOTS = ATTRIBUTES | {"extensions"}
_INDEX = re.compile(r"[0-9]{1,6}")
_MISSING = object()


def view(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event as filters and expressions see it: with its extensions gathered, too."""
    extensions = {name: value for name, value in event.items() if name not in ATTRIBUTES}
    return {**event, "extensions": extensions}


def matches(conditions: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether all conditions hold for the event in that view."""
    return all(_holds(condition, _find(path, seen)) for path, condition in conditions.items())


def filter_flaws(conditions: Any, pointer: str) -> Iterator[Flaw]:
    """What is wrong with a filter."""
    if not isinstance(conditions, Mapping):
        yield Flaw(pointer, "no JSON object")
        return
    if len(conditions) > MOST_CONDITIONS:
        yield Flaw(pointer, f"more than {MOST_CONDITIONS} conditions")
        return
    for path, condition in conditions.items():
        where = f"{pointer}/{path.replace('~', '~0').replace('/', '~1')}"
        if len(path) > LONGEST_PATH or path.split(".")[0] not in ROOTS or not all(path.split(".")):
            yield Flaw(where, f"no path: it begins with data., or is one of {', '.join(_SHOWN)}")
        elif isinstance(condition, Mapping):
            yield from _operator_flaws(condition, where)
        elif not _is_scalar(condition):
            yield Flaw(where, 'a list is no condition; {"in": […]} may be meant')


_SHOWN = (*sorted(ROOTS - {"data", "extensions"}), "extensions.…")


def _operator_flaws(condition: Mapping[str, Any], where: str) -> Iterator[Flaw]:
    if not condition:
        yield Flaw(where, f"no condition: {', '.join(OPERATORS)}")
    for name, value in condition.items():
        if name not in OPERATORS:
            yield Flaw(f"{where}/{name}", f"no condition: {', '.join(OPERATORS)}")
        elif name == "equals" and not _is_scalar(value):
            yield Flaw(f"{where}/{name}", "neither text, number, boolean nor null")
        elif name == "prefix" and not isinstance(value, str):
            yield Flaw(f"{where}/{name}", "no text")
        elif name == "exists" and not isinstance(value, bool):
            yield Flaw(f"{where}/{name}", "neither true nor false")
        elif name == "in" and not _is_choice(value):
            yield Flaw(f"{where}/{name}", f"no list of 1 … {MOST_CHOICES} values")


def _is_choice(value: Any) -> bool:
    return (
        isinstance(value, list) and 0 < len(value) <= MOST_CHOICES and all(map(_is_scalar, value))
    )


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _find(path: str, seen: Any) -> Any:
    for part in path.split("."):
        if isinstance(seen, Mapping):
            seen = seen.get(part, _MISSING)
        elif isinstance(seen, list) and _INDEX.fullmatch(part) and int(part) < len(seen):
            seen = seen[int(part)]
        else:
            return _MISSING
    return seen


def _holds(condition: Any, found: Any) -> bool:
    if not isinstance(condition, Mapping):
        return _is_equal(condition, found)
    return all(_holds_one(name, value, found) for name, value in condition.items())


def _holds_one(name: str, value: Any, found: Any) -> bool:
    match name:
        case "equals":
            return _is_equal(value, found)
        case "prefix":
            return isinstance(found, str) and found.startswith(value)
        case "in":
            return any(_is_equal(each, found) for each in value)
    return (found is not _MISSING) is value


def _is_equal(value: Any, found: Any) -> bool:
    """As JSON compares: 1 is 1.0, and true is not 1."""
    if isinstance(value, bool) or isinstance(found, bool):
        return value is found
    return found is not _MISSING and bool(value == found)
