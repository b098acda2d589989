"""What `pip install .` gives: just `lading`, in an environment without the server's packages."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.api.serving import Api
from tests.conftest import ROOT

NO_REGISTRY = ("failed to fetch", "error sending request", "could not connect", "dns error")
SERVER_SIDE = ("sqlalchemy", "celery", "fastapi", "redis", "psycopg", "jobs", "api", "worker")
PROGRAM = """
import importlib.util, json
from lading import Client, job, JobContext
from pydantic import BaseModel

class Args(BaseModel):
    value: int

@job("test.echo")
def echo(context: JobContext, args: Args) -> int:
    return args.value

with Client() as client:
    made = client.submit(echo, Args(value=7))
    cancelled = client.cancel(made)
    print(json.dumps({
        "types": [event.type for event in client.follow(made)],
        "args": client.get(made).args,
        "too much": [name for name in %r if importlib.util.find_spec(name)],
    }))
"""


def run(*command: str | Path, **more: str) -> str:
    """What it prints. Without a registry in reach the test is skipped, except under CI."""
    environment = {**os.environ, **more}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=120
    )
    is_away = any(words in done.stderr.lower() for words in NO_REGISTRY)
    if done.returncode and is_away and not os.environ.get("CI"):
        pytest.skip("no package registry answers")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(find_uv_bin(), "build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder)
    install = (find_uv_bin(), "pip", "install", "--quiet", "--python", folder / "bin/python")
    run(*install, "--constraint", ROOT / "requirements/server.lock", wheel)
    return folder


def test_the_wheel_holds_just_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"lading"}
    assert "lading/py.typed" in names
    assert any(name.endswith("entry_points.txt") for name in names)


def test_it_works_in_a_clean_environment(environment: Path, api: Api, tmp_path: Path) -> None:
    address = {"LADING_URL": api.url, "LADING_API_KEY": api.key}
    script = tmp_path / "program.py"
    script.write_text(PROGRAM % (SERVER_SIDE,))
    told = json.loads(run(environment / "bin/python", "-I", script, **address))
    assert told["types"] == ["created", "cancelled"]
    assert told["args"] == {"value": 7}
    assert told["too much"] == []
    listed = run(environment / "bin/lading", "list", "--json", "--limit", "1", **address)
    assert json.loads(listed)["state"] == "cancelled"
