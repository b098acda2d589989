"""What a query may be: one SELECT over the inputs, and nothing that reaches anything else.

Polars' SQL has functions that read files and addresses (`read_csv('/etc/passwd')`), and does so
while it resolves the query. So three checks stand in a row, each enough alone: the statement's own
words; the relations that Polars' parser finds in it, by name; and the files its plan would scan.
"""

import re
from collections.abc import Collection, Iterator
from itertools import dropwhile

import polars as pl
from polars._plr import PySQLContext  # the parser that will read the query; nothing public tells

from kinds.data_tables import Table, first_words
from lading import Fail

# Comments and texts are one token each, so that no word inside of them counts.
TOKEN = re.compile(
    r"""
      (?P<gap> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<text> '(?:[^']|'')*' )
    | (?P<word> [^\W\d]\w* | "(?:[^"]|"")*" | `[^`]*` )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
FIRST = frozenset({"select", "with", "("})
READER = re.compile(r"(read|scan)_", re.IGNORECASE)
SCAN = re.compile(r"^\s*\S.* SCAN \[(?P<files>.*)\]$", re.MULTILINE)
NOTHING_ELSE = "a query reads its inputs and nothing else"
LISTED = 30  # names in a message
MISSING = re.compile(r'^unable to find column "(?P<column>.*)"; valid columns: \[(?P<valid>.*)\]')
MISSING_IN = re.compile(r"^no column named '(?P<column>.*)' found in table '(?P<table>.*)'")
MISSING_TABLE = re.compile(r"^relation '(?P<table>.*)' was not found")


def check_statement(sql: str, inputs: Collection[str]) -> None:
    """The statement is one SELECT whose every relation is an input or defined in it; else Fail."""
    tokens = list(_tokens(sql))
    if not tokens or tokens[0] not in FIRST:
        raise Fail("the query must be a SELECT")
    if set(dropwhile(lambda each: each != ";", tokens)) > {";"}:
        raise Fail("the query must be one statement")
    for word, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if following == "(" and READER.match(word):
            raise Fail(f"{word}() is not available: {NOTHING_ELSE}")
    try:
        relations = PySQLContext.table_identifiers(sql, include_schema=True, unique=True)
    except pl.exceptions.PolarsError as error:
        raise Fail(_syntax(error)) from error
    known = {name.lower() for name in inputs} | set(_defined(tokens))
    for relation in relations:
        if relation.lower() not in known or READER.match(relation):
            raise Fail(f"there is no input `{relation}`; {NOTHING_ELSE}: {_listed(inputs)}")


def _tokens(sql: str) -> Iterator[str]:
    """Words in lower case and without quotes, signs one by one; no gaps, no comments, no texts."""
    at = 0
    while at < len(sql):
        match = TOKEN.match(sql, at)
        assert match is not None  # `other` matches anything
        at = match.end()
        if match["comment"]:
            at = _end_of_comment(sql, at)
        elif match["word"]:
            yield match["word"].strip('"`').lower()
        elif match["text"]:
            yield "''"
        elif match["other"]:
            yield match["other"]


def _end_of_comment(sql: str, at: int) -> int:
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(sql)


def _defined(tokens: list[str]) -> Iterator[str]:
    """The names that WITH defines: each `name [(columns)] AS [[NOT] MATERIALIZED] (`."""
    for place, token in enumerate(tokens):
        if token != "as":  # noqa: S105 - a word of SQL
            continue
        after = place + 1
        while tokens[after : after + 1] in (["not"], ["materialized"]):
            after += 1
        if tokens[after : after + 1] != ["("]:
            continue
        before = place - 1
        if tokens[before] == ")":
            while before > 0 and tokens[before] != "(":
                before -= 1
            before -= 1
        yield tokens[before]


def resolve(sql: str, frames: dict[str, pl.LazyFrame], tables: Collection[Table]) -> pl.LazyFrame:
    """The query's rows, not yet computed; Fail in words that name what does not fit.

    The statement has been checked. Names are found among `frames` only.
    """
    try:
        query = pl.SQLContext(frames, register_globals=False).execute(sql, eager=False)
        query.collect_schema()
        plan = query.explain(optimized=False)
    except pl.exceptions.PolarsError as error:
        raise Fail(explain(error, tables)) from error
    ours = {str(table.path) for table in tables}
    for match in SCAN.finditer(plan):
        if match["files"] not in ours:
            raise Fail(NOTHING_ELSE)
    return query


def explain(error: BaseException, tables: Collection[Table]) -> str:
    """What Polars says about the query, in words for its author."""
    words = str(error)
    if match := MISSING_TABLE.match(words):
        names = _listed([table.source.name for table in tables])
        return f"there is no input `{match['table']}`; there is: {names}"
    if match := MISSING_IN.match(words):
        table = next((each for each in tables if each.source.name == match["table"]), None)
        has = f"; it has: {_listed(table.columns)}" if table else ""
        return f"no column `{match['column']}` in `{match['table']}`{has}"
    if match := MISSING.match(words):
        return _missing_column(match["column"], match["valid"], tables)
    said = first_words(error)
    if said.startswith("sql parser error"):
        return _syntax(error)
    for table in tables:
        said = said.replace(str(table.path), table.source.label)
    return f"the query does not work: {said}{_reasons(words, tables)}"


def _missing_column(column: str, valid: str, tables: Collection[Table]) -> str:
    names = valid.strip('"').split('", "')
    table = next((each for each in tables if list(each.columns) == names), None)
    where = f" in `{table.source.name}`; it has" if table else "; there are"
    return f"no column `{column}`{where}: {_listed(names)}"


def _reasons(words: str, tables: Collection[Table]) -> str:
    """Why the columns that the words name are text, as far as they look like something else."""
    reasons = [
        f"`{column}` of {table.source.label} is text because {reason}"
        for table in tables
        for column, reason in table.reasons.items()
        if re.search(rf"""["'`]{re.escape(column)}["'`]""", words)
    ]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _syntax(error: BaseException) -> str:
    said = first_words(error).removeprefix("sql parser error: ")
    return f"the query is no SQL: {said}"


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:LISTED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
