"""What `import lading` costs, and that both clients have the same verbs."""

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

import lading
from lading import AsyncClient, Client, Unreachable
from lading.client.verb import series, verb
from lading.client.verbs import Verbs
from tests.conftest import ROOT

HEAVY = {"httpx2", "httpcore2", "anyio", "rich", "typer", "lading.client", "lading.cli"}
VERBS = sorted(name for name in dir(Verbs) if isinstance(getattr(Verbs, name), verb | series))


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
    own = {"url", "close"}
    assert {*VERBS} > {"submit", "follow", "create_schedule", "watch_bulk"}
    for client in (Client, AsyncClient):
        found = {name for name in dir(client) if not name.startswith("_")}
        assert found - own == {*VERBS}


def test_a_verb_is_run_in_the_clients_way_of_waiting() -> None:
    nowhere = ("http://127.0.0.1:1", "key")
    with Client(*nowhere, patience=0) as client:
        with pytest.raises(Unreachable):
            client.queues()
        assert isinstance(client.list(), Iterator)
        assert inspect.signature(client.submit).parameters["wait"].default is None
        assert client.submit.__doc__
    awaited = AsyncClient(*nowhere, patience=0)
    asking = awaited.queues()
    assert inspect.iscoroutine(asking)
    asking.close()
    assert isinstance(awaited.list(), AsyncIterator)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_what_it_does(name: str) -> None:
    assert inspect.getdoc(getattr(Client, name))
