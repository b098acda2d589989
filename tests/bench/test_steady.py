"""The bench of a constant rate: a second of it, and what is said of its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import report, steady
from bench.figures import spread
from bench.steady import Steady, Window
from bench.steady_storage import Storage, Table
from tests.conftest import ROOT

TABLE = Table(
    1024**2, 2 * 1024**2, live=100, dead=7, vacuums=3, analyzes=1, updates=5, hot_updates=2
)
STORAGE = Storage({"job": TABLE, "job_event": TABLE}, {"job_pkey": 8192}, 1, 1)


def _window(cost: float) -> Window:
    cpu = {"api": cost / 2, "postgres": cost / 2, "all": cost}
    return Window(100, 300.0, cpu, spread([0.01, 0.02]), 2 * 1024**2, 6, 0.125, STORAGE)


def _steady(*costs: float) -> Steady:
    return Steady(200, [_window(each) for each in costs], 0.002, 0, 0, 0, 0)


@pytest.mark.slow
def test_a_second_of_a_constant_rate_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.steady", "--tiny", "--json", str(file)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert len(found["windows"]) == steady.TINY.windows
    jobs = sum(each["jobs"] for each in found["windows"])
    assert 0 < jobs <= steady.TINY.rate * steady.TINY.minutes * 60
    last = found["windows"][-1]
    assert set(last["cpu_ms"]) == {"api", "dispatcher", "worker", "postgres", "redis", "all"}
    assert last["final_ms"]["p50"] > 0
    assert last["end"]["tables"]["job"]["index_bytes"] > 0
    assert last["end"]["index_bytes"]["job_pkey"] > 0


def test_the_last_window_is_compared_with_the_second() -> None:
    calm, dear = _steady(9.0, 2.0, 2.2), _steady(1.0, 2.0, 2.4)
    assert steady.missed(calm) == []
    assert steady.missed(dear) == ["a job of the last window costs 1.20 × one of the second"]
    assert steady.missed(calm._replace(missing=1, findings=2)) == [
        "1 missing",
        "2 findings of the audit",
    ]


def test_windows_become_rows() -> None:
    words = steady.text(_steady(9.0, 2.0, 2.2))
    assert "| 10 | 2.00 | 1.00 | 1.00 | 10.0 | 20.0 | 2 | 12% |" in words
    assert "| 15 | 300 | 2 | 4 | 14 | 7 | 6 |" in words
    assert "cost 1.10 × one of the second. Of 300 jobs, 200 a second, 0 were refused" in words


def test_the_markers_stand_in_the_page() -> None:
    assert all(report.REPORT.read_text().count(each) == 1 for each in (steady.BEGIN, steady.END))
