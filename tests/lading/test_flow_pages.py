"""What the pages about who runs when tell people to do, done."""

import os
import re
import shlex
import subprocess

import pytest

from tests.api.serving import Api
from tests.conftest import ROOT
from tests.lading.shell import Run

PAGES = (
    *("limit-concurrency", "limit-rate", "pause", "priorities", "why-is-it-not-running"),
    "schedules",
)


def blocks(page: str, language: str) -> list[str]:
    """What the page shows in that language."""
    text = (ROOT / "docs/how-to" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_program_runs(
    page: str, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LADING_URL", api.url)
    monkeypatch.setenv("LADING_API_KEY", api.key)
    asking = [each for each in blocks(page, "python") if "Client()" in each]
    assert asking
    for program in asking:
        exec(compile(program, page, "exec"), {})
        assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES[:3] + PAGES[4:5])
def test_the_pages_requests_are_answered(page: str, api: Api) -> None:
    job = api.submit("demo.sleep", args={"seconds": 0}, delay=3600)["id"]
    here = {"LADING_URL": api.url, "LADING_API_KEY": api.key, "JOB": job}
    strict = 'curl() { command curl -sS --fail-with-body "$@"; }\n'
    for script in blocks(page, "sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", strict + script],
            check=False,
            env=os.environ | here,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout


COMMANDS = (
    *("limit-concurrency", "limit-rate", "keys-and-roles", "audit", "bulk-operations"),
    "schedules",
)


@pytest.mark.parametrize("page", COMMANDS)
def test_the_pages_command_lines_run(page: str, api: Api, lading: Run) -> None:
    if page == "bulk-operations":
        api.submit("demo.sleep", args={"seconds": 0}, delay=3600, labels={"list": "wrong"})
    text = (ROOT / "docs/how-to" / f"{page}.md").read_text()
    lines = re.findall(r"^    lading (.*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        done = lading(*shlex.split(line))
        assert done.code == 0, (line, done.err)
    for made in api.http.get("/v1/schedules").json()["items"]:  # their names are free again
        assert api.http.delete(made["links"]["self"]).status_code == 204
