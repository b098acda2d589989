"""What a run of the chaos suite says of itself, and that it is read as it was written."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from chaos import __main__ as command
from chaos import scenarios
from chaos.running import Outcome
from chaos.scenario import MISHAPS, SCENARIOS
from chaos.stage import Measured
from chaos.telling import Report, page, paragraph

GOOD = Outcome("good", "Redis wiped", "581 lost", accepted=1200, recovered=1.26, limit=5)
LOST = Outcome("lost", "worker killed", "", accepted=10, lost=["0197: accepted, and unknown"])
WRONG = Outcome("wrong", "api killed", "", accepted=10, wrong=["attempt 1 started twice"])
LATE = Outcome("late", "deploy", "", accepted=12, measured=[Measured("back", 2.5, 2.0)])
OUTCOMES = [GOOD, LOST, WRONG, LATE]


def kept(outcomes: list[Outcome], folder: Path) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(asdict(Report(7, 12.5, 2, outcomes))))
    return path


def test_a_row_says_what_was_found() -> None:
    rows = page(Report(7, 12.5, 2, OUTCOMES)).splitlines()[2:6]
    assert rows == [
        "| Redis wiped | 1,200 | 0 | 0 | 0 | 1.3 (≤ 5) | 581 lost |",
        "| worker killed | 10 | 1 | 0 | 0 | – | – |",
        "| api killed | 10 | 0 | 0 | 1 | – | – |",
        "| deploy | 12 | 0 | 0 | 0 | 2.5 (≤ 2) | – |",
    ]


@pytest.mark.parametrize("bad", [LOST, WRONG, LATE], ids=lambda each: each.name)
def test_whatever_is_lost_wrong_or_late_fails_the_run(bad: Outcome, tmp_path: Path) -> None:
    assert command.main(["--read", str(kept([GOOD], tmp_path))]) == 0
    assert command.main(["--read", str(kept([GOOD, bad], tmp_path))]) == 1
    assert paragraph(bad).startswith("FAIL")


def test_the_table_goes_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "guarantees.md"
    document.write_text("before\n<!-- chaos:begin -->\nold\n<!-- chaos:end -->\nafter\n")
    monkeypatch.setattr(command, "PAGE", document)
    command.main(["--read", str(kept(OUTCOMES, tmp_path)), "--write"])
    text = document.read_text()
    assert text.startswith("before\n<!-- chaos:begin -->\n| what is done |")
    assert text.endswith("\n<!-- chaos:end -->\nafter\n")
    assert "old" not in text


def test_every_scenario_is_known_and_all_take_little_more_than_half_an_hour() -> None:
    scenarios.load()
    assert len(SCENARIOS) >= 20
    assert len(MISHAPS) >= 10
    assert sum(scenario.seconds for scenario in SCENARIOS.values()) <= 35 * 60
