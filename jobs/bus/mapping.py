"""From an event to a job's args.

In a mapping each text is a JMESPath expression (jmespath.org) over the event; lists and objects
are followed, and anything else stands for itself:

    {"to": ["data.email"], "template": "'welcome'", "variables": {"name": "data.name"}, "n": 3}

A text that is meant is written `'welcome'`, which is JMESPath's own way. A member whose expression
finds nothing is left out, so that the kind's default counts. No mapping at all: `data` is the args.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

from jobs.bus.matching import ROOTS
from jobs.errors import Flaw

MOST_EXPRESSIONS = 200
LONGEST_EXPRESSION = 1000  # characters
MOST_STEPS = 200_000  # some 100 ms: an expression can double its input with every few characters
_DEEPEST = 30
_IN_BRACES = re.compile(r"\{([^{}]*)\}")
_FUNCTIONS = Functions.FUNCTION_TABLE  # JMESPath's own, by their names
_CHARACTERS = 50  # of a text that count as one step
_LEADS_ON = frozenset(
    {"subexpression", "index_expression", "projection", "value_projection", "filter_projection"}
    | {"flatten", "pipe", "slice", "or_expression", "and_expression", "comparator"}
)


class MappingFailed(ValueError):
    """The mapping makes no args of this event: what is wrong, and where in the args."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"{flaw.pointer}: {flaw.detail}")
        self.flaw = flaw


def make_args(mapping: Any, seen: Mapping[str, Any], pointer: str = "#/args") -> dict[str, Any]:
    """The args for the event in jobs.bus.matching's view. MappingFailed."""
    budget = _Budget()
    made = seen.get("data") if mapping is None else _make(mapping, seen, budget, pointer)
    if not isinstance(made, dict):
        what = "the event's data is" if mapping is None else "the mapping makes"
        raise MappingFailed(Flaw(pointer, f"{what} no JSON object"))
    try:
        budget.count(made)
    except _TooMuch as error:
        raise MappingFailed(Flaw(pointer, str(error))) from None
    return made


def mapping_flaws(mapping: Any, pointer: str) -> Iterator[Flaw]:
    """What is wrong with a mapping before any event has come."""
    if mapping is None:
        return
    if not isinstance(mapping, str | Mapping):
        yield Flaw(pointer, "neither an object nor an expression that gives one")
        return
    found = [*_expressions(mapping, pointer, 0)]
    if len(found) > MOST_EXPRESSIONS:
        yield Flaw(pointer, f"more than {MOST_EXPRESSIONS} expressions")
        return
    for where, text in found:
        if text is None:
            yield Flaw(where, f"deeper than {_DEEPEST} levels")
        elif wrong := _wrong_expression(text):
            yield Flaw(where, wrong)


def fill(text: str, seen: Mapping[str, Any], pointer: str) -> str:
    """The text with what the expressions in its braces find: `tenant-{data.tenant}`.

    MappingFailed, also where one finds no text or number.
    """

    def found(match: re.Match[str]) -> str:
        value = _make(match[1], seen, _Budget(), pointer)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise MappingFailed(Flaw(pointer, f"{match[1]} finds no text and no number"))
        return str(value)

    return _IN_BRACES.sub(found, text)


def fill_flaws(text: str, pointer: str) -> Iterator[Flaw]:
    """What is wrong with such a text before any event has come."""
    for expression in _IN_BRACES.findall(text):
        if wrong := _wrong_expression(expression):
            yield Flaw(pointer, wrong)
    if set("{}") & set(_IN_BRACES.sub("", text)):
        yield Flaw(pointer, "braces hold an expression, and have no others within")


def is_constant(mapping: Any) -> bool:
    """Whether it says the same of any event: it holds no expression but texts that are meant."""
    match mapping:
        case str():
            return _parsed(mapping).parsed["type"] == "literal"
        case Mapping():
            return all(map(is_constant, mapping.values()))
        case list():
            return all(map(is_constant, mapping))
    return True


def constant(mapping: Any) -> Any:
    """What a mapping that is_constant makes."""
    return _make(mapping, {}, _Budget(), "#")


def _make(mapping: Any, seen: Mapping[str, Any], budget: "_Budget", pointer: str) -> Any:
    match mapping:
        case str():
            try:
                return _Bounded(budget).visit(_parsed(mapping).parsed, seen)
            except (JMESPathError, _TooMuch, RecursionError) as error:
                raise MappingFailed(Flaw(pointer, f"{mapping:.200}: {error}")) from None
        case Mapping():
            made = {
                name: _make(value, seen, budget, f"{pointer}/{_escaped(name)}")
                for name, value in mapping.items()
            }
            # An expression that finds nothing leaves its member out; a null that is meant stays.
            return {k: v for k, v in made.items() if v is not None or mapping[k] is None}
        case list():
            return [_make(v, seen, budget, f"{pointer}/{n}") for n, v in enumerate(mapping)]
    return mapping


def _expressions(mapping: Any, pointer: str, depth: int) -> Iterator[tuple[str, str | None]]:
    if depth > _DEEPEST:
        yield pointer, None
        return
    match mapping:
        case str():
            yield pointer, mapping
        case Mapping():
            for name, value in mapping.items():
                yield from _expressions(value, f"{pointer}/{_escaped(name)}", depth + 1)
        case list():
            for number, value in enumerate(mapping):
                yield from _expressions(value, f"{pointer}/{number}", depth + 1)


def _wrong_expression(text: str) -> str | None:
    if len(text) > LONGEST_EXPRESSION:
        return f"an expression longer than {LONGEST_EXPRESSION} characters"
    try:
        parsed = _parsed(text).parsed
    except (JMESPathError, RecursionError) as error:
        return f"no JMESPath expression: {str(error).splitlines()[0]}; a text is written '…'"
    root = _root(parsed)
    if root is not None and root not in ROOTS:
        return (
            f"an event has no {root!r}: expressions begin with data., an attribute or extensions.;"
            f" a text is written '{root}'"
        )
    return _wrong_call(parsed)


def _wrong_call(parsed: Mapping[str, Any]) -> str | None:
    """What no event can mend in the functions that an expression calls."""
    nodes = [parsed]
    for node in nodes:  # which grows by what is within
        within = [each for each in node["children"] if isinstance(each, dict)]
        nodes += within
        if node["type"] != "function_expression":
            continue
        name = node["value"]
        if name not in _FUNCTIONS:
            return f"JMESPath has no function {name}()"
        signature = _FUNCTIONS[name]["signature"]
        wanted, given = len(signature), len(within)
        is_open = signature[-1].get("variadic", False)
        if given < wanted or (given > wanted and not is_open):
            most = " or more" if is_open else ""
            return f"{name}(): the number of arguments is {wanted}{most}, not {given}"
    return None


def _root(node: Mapping[str, Any]) -> str | None:
    """The name that an expression begins with, if it begins with one."""
    while node["type"] in _LEADS_ON and node["children"]:
        node = node["children"][0]
    return node["value"] if node["type"] == "field" else None


@lru_cache(maxsize=1000)
def _parsed(text: str) -> ParsedResult:
    return jmespath.compile(text)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class _TooMuch(Exception):
    """An expression takes, or makes, more than is sane."""


class _Budget:
    """What all expressions of a mapping may take together."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def spend(self, value: Any) -> None:
        """One step, and as many as the value is long."""
        self._left -= 1
        if isinstance(value, list | dict):
            self._left -= len(value)
        elif isinstance(value, str):
            self._left -= len(value) // _CHARACTERS
        if self._left < 0:
            raise _TooMuch("it makes too much of the event")

    def count(self, document: Any) -> None:
        """All that is within; parts may be shared, and would be written out as often."""
        self.spend(document)
        if isinstance(document, dict):
            for value in document.values():
                self.count(value)
        elif isinstance(document, list):
            for value in document:
                self.count(value)


class _Bounded(TreeInterpreter):
    """JMESPath's interpreter, at the expense of a budget."""

    def __init__(self, budget: _Budget) -> None:
        super().__init__()
        self._budget = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        value = super().visit(node, *args, **kwargs)
        self._budget.spend(value)
        return value
