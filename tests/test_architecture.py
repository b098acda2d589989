"""The house rules that no linter knows, read from the source's own tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lading", "jobs", "api", "worker", "kinds", "dev", "chaos")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60  # lines
MAY_WRITE_STATE = {"jobs/lifecycle/statements.py", "jobs/enqueue/rows.py"}
MAY_CATCH_ALL = {"worker/execute.py"}
NOT_A_NAME = {"utils", "helpers", "common", "misc", "base", "core", "manager", "service", "data"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_modules_say_what_they_own(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not path.read_text().strip()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_lifecycle_and_enqueue_write_state(path: Path) -> None:
    assert name(path) in MAY_WRITE_STATE or [*state_writes(tree(path))] == []


def state_writes(module: ast.Module) -> Iterator[int]:
    """Lines that set the column `state`: by `.values(state=…)`, or in the text of a statement."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords):
                yield from (node.lineno for word in keywords if word.arg == "state")
            case ast.Constant(value=str(text)):
                words = text.lower().split()
                if (
                    "update job set" in " ".join(words)
                    and "state =" in " ".join(words).partition(" where ")[0]
                ):
                    yield node.lineno
                if "insert into job (" in " ".join(words):
                    yield node.lineno


def test_the_writers_of_state_are_seen() -> None:
    for writer in MAY_WRITE_STATE:
        assert [*state_writes(tree(ROOT / writer))], writer


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_executor_catches_everything(path: Path) -> None:
    broad = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not any(isinstance(each, ast.Raise) and each.exc is None for each in ast.walk(node))
    ]
    assert name(path) in MAY_CATCH_ALL or broad == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_named_after_what_they_hold(path: Path) -> None:
    if name(path) == "kinds/data.py":
        return  # the kinds `data.transform` and `data.profile`
    assert path.stem not in NOT_A_NAME


def test_below_the_edges_nothing_commits() -> None:
    for path in (ROOT / "jobs").rglob("*.py"):
        if path.name == "__main__.py":
            continue  # an edge: it opens the transaction of a command
        commits = [
            node.lineno
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and node.attr == "commit"
        ]
        assert commits == [], path
