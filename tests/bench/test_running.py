"""The bench runs at all: Lading alone, a handful of jobs, all of what a quick run writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.catalogue import PEERS
from bench.plot import plot
from tests.conftest import ROOT


@pytest.mark.slow
def test_a_tiny_run_measures_a_job_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--tiny", "--only", "lading", "--phases", "end_to_end,latency,batches"]
    options += ["--json", str(file), "--logs", str(tmp_path / "logs")]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    median = results["peers"]["lading"]["median"]
    assert median, done.stdout
    cpu = median["end_to_end"]["cpu_ms"]
    assert set(cpu) == {"api", "dispatcher", "worker", "postgres", "redis", "all"}
    assert cpu["all"] > 0
    latency = median["latency"]
    assert 0 < latency["answered_ms"]["p50"] < latency["final_ms"]["p50"]
    assert latency["started_ms"]["p50"] < latency["final_ms"]["p50"]
    assert median["batches"]["rate"] > 0
    assert "| **Lading** |" in done.stdout
    assert "Lading</text>" in plot([PEERS[0]], results)


def test_every_peer_is_pinned_and_says_what_it_promises() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for peer in PEERS[1:]:
        pins = (peer.home / "requirements.txt").read_text().split()
        assert pins
        assert all("==" in pin for pin in pins), peer.name
        assert all((peer.promise.lives_in, peer.promise.worker_killed, peer.promise.status))
