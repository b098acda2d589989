"""What `import lading` costs, and that both clients have the same verbs."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

import lading
from lading import AsyncClient, Client
from tests.conftest import ROOT

HEAVY = {"httpx2", "httpcore2", "anyio", "rich", "typer", "lading.client", "lading.cli"}
VERBS = sorted(
    name for name in vars(Client) if callable(getattr(Client, name)) and not name.startswith("_")
)


def loaded_by(statement: str) -> set[str]:
    """The modules that a new Python has after that statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import lading", "from lading import job, JobContext, Retry", "import lading.testing"],
)
def test_authoring_loads_neither_client_nor_command_line(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_client_is_loaded_when_it_is_named() -> None:
    loaded = loaded_by("from lading import Client, NotFound")
    assert {"httpx2", "lading.client"} <= loaded
    assert not {"rich", "typer", "fastapi", "sqlalchemy", "celery", "jobs"} & loaded


def test_all_names_are_there() -> None:
    assert {name for name in lading.__all__ if not hasattr(lading, name)} == set()
    assert {"Client", "job"} <= set(dir(lading))
    with pytest.raises(AttributeError):
        _ = lading.Clint


def test_both_clients_have_the_same_verbs() -> None:
    assert [name for name in VERBS if not hasattr(AsyncClient, name)] == []
    public = {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert public == {name for name in vars(Client) if not name.startswith("_")}


@pytest.mark.parametrize("verb", ["__init__", *VERBS])
def test_a_verb_takes_the_same_and_gives_the_same(verb: str) -> None:
    blocking, awaited = (inspect.signature(getattr(each, verb)) for each in (Client, AsyncClient))

    def parameters(signature: inspect.Signature) -> list[tuple[Any, ...]]:
        return [
            (each.name, each.kind, each.default, each.annotation)
            for each in signature.parameters.values()
            if each.name != "transport"
        ]

    assert parameters(blocking) == parameters(awaited)
    given = str(awaited.return_annotation).replace("AsyncIterator", "Iterator")
    assert given == str(blocking.return_annotation)
    assert getattr(AsyncClient, verb).__doc__ or verb == "__init__"
