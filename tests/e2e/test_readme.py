"""What README.md and CONTRIBUTING.md show is what happens."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobs.registry import Registry
from lading import testing
from lading.authoring import find_kind
from tests.conftest import ROOT
from tests.e2e.platform import Platform

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def shell(platform: Platform, script: str) -> str:
    """What the script prints, run as a reader would, on the test's own addresses."""
    dev = platform.dev
    script = script.replace("http://127.0.0.1:8000", dev["api"])
    script = script.replace(".lading/", f"{platform.folder}/data/")
    script = script.replace(".venv/bin/python", sys.executable)
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = {**os.environ, "LADING_DATA_DIR": str(platform.folder / "data")}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_commands_do_what_it_says(platform: Platform) -> None:
    mail, transform, _ = blocks(README, "sh")
    job = json.loads(shell(platform, mail))
    assert (job["kind"], job["state"]) == ("email.send", "succeeded")
    mails = httpx2.get(f"{platform.dev['mail']}/messages", timeout=40).json()
    assert job["result"]["message_id"] in [each["message_id"] for each in mails]

    head = mail.splitlines()[0]  # API and AUTH
    followed, last = shell(platform, f"{head}\n{transform}").rsplit("\n{", 1)
    job = json.loads("{" + last)
    assert (job["kind"], job["state"]) == ("data.transform", "succeeded")
    events = re.findall(r"^event: (\w+)$", followed, re.MULTILINE)
    assert (events[0], events[-1]) == ("created", "succeeded")


def test_the_readmes_bar_goes_on_to_the_end_while_the_api_dies(platform: Platform) -> None:
    *_, follow = blocks(README, "sh")
    before = platform.dev["pids"]["api"]
    shown = shell(platform, follow)
    assert platform.dev["pids"]["api"] != before
    assert "succeeded" in shown


def test_the_banner_is_the_readmes(platform: Platform) -> None:
    shown = README.partition("    Lading is ready\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in shown.splitlines()]
    printed = platform.output.partition("Lading is ready\n")[2].splitlines()[: len(names)]
    assert [line.split()[0] for line in printed] == names


def test_the_readmes_kind_is_one() -> None:
    (source,) = blocks(README, "python")
    scope: dict[str, Any] = {"__name__": "my_kinds"}
    sys.modules["my_kinds"] = type(sys)("my_kinds")
    try:
        sys.modules["my_kinds"].__dict__.update(scope)
        exec(compile(source, "my_kinds", "exec"), sys.modules["my_kinds"].__dict__)
        resize = sys.modules["my_kinds"].__dict__["resize"]
        kind = find_kind(resize)
        assert kind is not None
        assert list(Registry([kind])) == ["image.resize"]
        assert testing.run(resize, {"path": "x", "width": 3}).result == {"width": 3}
    finally:
        del sys.modules["my_kinds"]


def test_the_guides_kind_runs_in_the_platform(tmp_path: Path) -> None:
    command = next(
        line for line in blocks(CONTRIBUTING, "sh")[0].splitlines() if "make dev" in line
    )
    variables = dict(re.findall(r"(\w+)=(\S+)", command))
    platform = Platform(tmp_path, variables).start()
    try:
        job = platform.run("example.greet", {"names": ["Ann"]})
        assert job["result"] == {"greetings": ["Hello Ann!"]}
    finally:
        left = platform.stop()
        platform.remove()
    assert left == []


def test_the_guides_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples/kinds")
    for source in blocks(CONTRIBUTING, "python"):
        exec(compile(source, "CONTRIBUTING.md", "exec"), {})
