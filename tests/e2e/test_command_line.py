"""The command line beside a whole platform, as its reader types it, while processes die."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lading import Client
from lading.cli.app import COMMANDS, GROUPS
from tests.conftest import ROOT
from tests.e2e.platform import Platform
from tests.eventually import eventually

STEPS = 40


def surroundings(platform: Platform) -> dict[str, str]:
    """The platform is found by the dev.json that it has written."""
    kept = {name: each for name, each in os.environ.items() if name != "LADING_URL"}
    return {**kept, "LADING_DATA_DIR": str(platform.folder / "data")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lading", "--patience", "30", *arguments]


def blocks(page: str, language: str) -> list[str]:
    """What the page shows in that language."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def lading(platform: Platform, *arguments: str) -> str:
    """What the command prints; it succeeds."""
    done = subprocess.run(
        command(*arguments),
        check=False,
        cwd=ROOT,
        env=surroundings(platform),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_follower_outlives_the_api(platform: Platform, tmp_path: Path) -> None:
    args = json.dumps({"seconds": 8, "steps": STEPS})
    job_id = lading(platform, "submit", "demo.sleep", "--args", args).strip()
    shown = tmp_path / "shown"
    with shown.open("w") as output:
        follower = subprocess.Popen(
            command("follow", job_id, "--json"),
            cwd=ROOT,
            env=surroundings(platform),
            stdout=output,
        )
    try:
        eventually(lambda: '"progress"' in shown.read_text(), within=30)
        platform.kill("api")
        assert follower.wait(60) == 0
    finally:
        follower.kill()
    events: list[dict[str, Any]] = [json.loads(line) for line in shown.read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "succeeded"
    history = platform.client().get(f"/v1/jobs/{job_id}/events").json()["items"]
    assert [(each["seq"], each["type"], each["data"]) for each in events] == [
        (each["seq"], each["type"], each["data"]) for each in history
    ]


def test_a_table_goes_up_is_queried_and_comes_back(platform: Platform, tmp_path: Path) -> None:
    file_id = lading(platform, "upload", "tests/data/airports.csv").strip()
    args = {
        "inputs": {"airports": file_id},
        "sql": "SELECT count(*) AS n FROM airports",
        "format": "csv",
    }
    (tmp_path / "args.json").write_text(json.dumps(args))
    submitted = ("submit", "data.transform", "--args", f"@{tmp_path / 'args.json'}")
    job = json.loads(lading(platform, *submitted, "--wait", "--json"))
    path = lading(platform, "download", job["result"]["file_id"], str(tmp_path / "out.csv"))
    assert Path(path.strip()).read_text().split() == ["n", "1458"]
    assert "prefork" in lading(platform, "top", "--once")


@pytest.mark.parametrize("kind", ["test.echo", "test.echo_io"])
def test_the_client_runs_jobs(platform: Platform, kind: str) -> None:
    dev = platform.dev
    with Client(dev["api"], dev["key"]) as client:
        job = client.submit(kind, {"value": [1]}, wait=30)
        assert (job.state, job.result) == ("succeeded", [1])
        assert len(client.workers()) == 2
        assert client.health().status == "ready"


PAGES = (
    "docs/reference/client.md",
    "docs/how-to/follow-a-job.md",
    "docs/how-to/unique-jobs.md",
    "docs/how-to/wait-for-other-jobs.md",
    "docs/how-to/batches.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_programs_run(platform: Platform, page: str) -> None:
    programs = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert programs
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            cwd=ROOT,
            env=surroundings(platform),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_pages_commands_do_what_it_says(platform: Platform) -> None:
    (script,) = blocks("docs/reference/cli.md", "sh")
    lading_here = f'lading() {{ {sys.executable} -m lading "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lading_here + script],
        check=False,
        cwd=ROOT,
        env=surroundings(platform),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    followed, _, shown = done.stdout.rpartition("succeeded\n{")
    assert "created" in followed
    assert '"state":"succeeded"' in shown
    assert "Queues" in shown


def test_the_page_names_every_command() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    assert [name for name in (*COMMANDS, *GROUPS) if not re.search(rf"`{name}\b", page)] == []
