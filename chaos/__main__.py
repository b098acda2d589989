"""`python -m chaos`: runs the scenarios and tells; exit 1 where a job was lost or wrong."""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from chaos import scenarios
from chaos.keeper import ROOT
from chaos.running import Outcome, run_all
from chaos.scenario import SCENARIOS, Scenario
from chaos.stage import Measured
from chaos.telling import Report, page, paragraph

PAGE = ROOT / "docs/guarantees.md"
BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where something was lost, wrong or late."""
    given = _parse(arguments)
    scenarios.load()
    chosen = _choose(given.only)
    if given.list:
        _list(chosen)
        return 0
    report = _read(given.read) if given.read else _run(chosen, given.seed)
    print(f"\n{page(report)}")
    if given.json:
        given.json.write_text(json.dumps(asdict(report), indent=1))
    if given.write:
        _write(report)
    return 0 if all(outcome.is_good for outcome in report.outcomes) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("--only", default="", help="names of scenarios, comma-separated")
    parser.add_argument("--seed", type=int, help="of the load and the choices; else a random one")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and run none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--read", type=Path, metavar="FILE", help="take them from there; run none")
    parser.add_argument("--write", action="store_true", help=f"the table into {PAGE.name}")
    return parser.parse_args(arguments)


def _choose(only: str) -> list[Scenario]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        sys.exit(f"There is no scenario {', '.join(unknown)}: --list names them")
    return [SCENARIOS[name] for name in names or SCENARIOS]


def _list(chosen: Sequence[Scenario]) -> None:
    for scenario in chosen:
        print(f"{scenario.seconds:5.0f} s  {scenario.name:28} {scenario.title}")
    print(f"{sum(scenario.seconds for scenario in chosen) / 60:5.1f} min in all")


def _run(chosen: Sequence[Scenario], seed: int | None) -> Report:
    seed = secrets.randbelow(10**6) if seed is None else seed
    begun = time.monotonic()
    print(f"{len(chosen)} scenarios, seed {seed}", flush=True)
    outcomes = run_all(chosen, seed, lambda outcome: print(paragraph(outcome), flush=True))
    return Report(seed, (time.monotonic() - begun) / 60, os.cpu_count() or 1, outcomes)


def _read(path: Path) -> Report:
    found = json.loads(path.read_text())
    outcomes = [
        Outcome(**{**each, "measured": [Measured(**one) for one in each["measured"]]})
        for each in found.pop("outcomes")
    ]
    return Report(**found, outcomes=outcomes)


def _write(report: Report) -> None:
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE} has no {BEGIN} … {END}")
    PAGE.write_text(f"{before}{BEGIN}\n{page(report)}\n{END}{after}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and folders go, too
    sys.exit(main())
