"""Half an hour of a constant rate: `python -m bench.steady --minutes 30 --rate 200`.

With servers and a whole platform of its own, on empty tables, which are full of finished jobs in
the end. No-ops come in over HTTP by a timetable; of each stretch of the time there is what a job
has cost, how long some of them took, and what PostgreSQL kept and tidied up. Afterwards all that
were accepted have to be there. `--write` puts the table into docs/performance.md.
"""

import argparse
import bisect
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench import auditing, generator, report, steady_load, steady_storage
from bench.accounting import cpu_seconds, machine_seconds, memory_bytes
from bench.catalogue import OURS
from bench.figures import Spread, per_job, spread
from bench.peer import Peer
from bench.running import Running, running
from bench.servers import Servers
from bench.steady_load import Load
from bench.steady_storage import Storage

BEGIN, END = "<!-- steady:begin -->", "<!-- steady:end -->"
MOST_DEARER = 1.10  # the aim: a job of the last window, beside one of the second
LOOK = 1.0  # seconds between two looks whether all runs
GONE_WITHIN = 60.0  # seconds until the last job is final
MIB = 1024**2


class Amounts(NamedTuple):
    """How much."""

    minutes: float = 30
    rate: float = 200  #: jobs a second
    follow: float = 4  #: … of which so many are followed to their end
    windows: int = 6  #: of five minutes: each has a checkpoint of PostgreSQL, at least


TINY = Amounts(minutes=0.025, rate=20, follow=10, windows=3)


class Seen(NamedTuple):
    """What has been used so far, between two windows."""

    at: float  #: seconds, monotonic
    cpu: Mapping[str, float]  #: seconds, by process
    machine: float  #: seconds of all its CPUs
    ours: float  #: seconds of us and all children
    memory: Mapping[str, int]  #: bytes, by process
    storage: Storage


class Window(NamedTuple):
    """One stretch of the time."""

    jobs: int
    seconds: float
    cpu_ms: Mapping[str, float]  #: a job, by process
    final_ms: Spread  #: from the sending of a POST to a final status
    memory: int  #: bytes in the end, of all processes
    vacuums: int
    others: float  #: the share of the machine that strangers used
    end: Storage


class Steady(NamedTuple):
    """One run."""

    rate: float
    windows: Sequence[Window]
    latest: float  #: seconds, the most that a POST was sent after it was due
    refused: int
    missing: int  #: accepted, and not there
    wrong: int  #: not succeeded, or not in the first attempt
    findings: int  #: of the audit, afterwards


def measure(peer: Peer, amounts: Amounts, logs: Path) -> Steady:
    """All of it. AssertionError, ChildProcessError, TimeoutError when something fails."""
    with (
        generator.make_executor() as executor,
        Servers() as servers,
        running(peer, servers, executor, logs) as platform,
    ):
        before = auditing.outcome(servers).jobs
        seen, load = _watch(platform, amounts)
        _await_rest(platform)
        platform.stop_workers()
        there, wrong = auditing.outcome(servers)
        findings = auditing.count_findings(servers)
    missing = before + len(load.accepted) - there
    windows = [*_windows(seen, load)]
    return Steady(amounts.rate, windows, load.latest, load.refused, missing, wrong, findings)


def _watch(platform: Running, amounts: Amounts) -> tuple[list[Seen], Load]:
    """What is seen at the beginning and after each window."""
    seconds = amounts.minutes * 60
    doing = platform.load.submit(
        steady_load.load,
        platform.order(),
        platform.peer.final,
        rate=amounts.rate,
        seconds=seconds,
        follow=amounts.follow,
    )
    began, seen = time.monotonic(), [_see(platform)]
    for number in range(amounts.windows):
        _wait_until(began + seconds * (number + 1) / amounts.windows, platform, doing)
        seen.append(_see(platform))
        print(_progress(seen[-2], seen[-1], amounts.rate), flush=True)
    return seen, doing.result()


def _wait_until(at: float, platform: Running, doing: "Future[Load]") -> None:
    while (left := at - time.monotonic()) > 0:
        time.sleep(min(left, LOOK))
        platform.check()
        if doing.done():
            doing.result()  # raises, if it has failed


def _see(platform: Running) -> Seen:
    groups = platform.groups
    return Seen(
        time.monotonic(),
        cpu_seconds(groups),
        machine_seconds(),
        cpu_seconds({"ours": [os.getpid()]})["ours"],
        memory_bytes(groups),
        steady_storage.look(platform.servers.database_url),
    )


def _progress(before: Seen, after: Seen, rate: float) -> str:
    spent = per_job(before.cpu, after.cpu, max(1, round(rate * (after.at - before.at))))
    return "CPU-ms a job: " + ", ".join(f"{name} {ms:.3f}" for name, ms in spent.items())


def _await_rest(platform: Running) -> None:
    end = time.monotonic() + GONE_WITHIN
    while left := platform.unfinished():
        if time.monotonic() > end:
            raise TimeoutError(f"{left} jobs are not final")
        platform.check()
        time.sleep(LOOK)


def _windows(seen: Sequence[Seen], load: Load) -> Iterator[Window]:
    cores = psutil.cpu_count() or 1
    for before, after in pairwise(seen):
        jobs = bisect.bisect(load.accepted, after.at) - bisect.bisect(load.accepted, before.at)
        seconds = after.at - before.at
        strangers = after.machine - before.machine - (after.ours - before.ours)
        yield Window(
            jobs,
            seconds,
            per_job(before.cpu, after.cpu, jobs),
            spread(took for sent, took in load.followed if before.at <= sent < after.at),
            sum(after.memory.values()),
            after.storage.vacuums - before.storage.vacuums,
            max(0.0, strangers / seconds / cores),
            after.storage,
        )


def dearer(found: Steady) -> float:
    """What a job cost in the last window, in those of the second."""
    return found.windows[-1].cpu_ms["all"] / found.windows[1].cpu_ms["all"]


def missed(found: Steady) -> list[str]:
    """The aims that were."""
    counts = {
        "refused": found.refused,
        "missing": found.missing,
        "not succeeded in their first attempt": found.wrong,
        "findings of the audit": found.findings,
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    if dearer(found) > MOST_DEARER:
        said.append(f"a job of the last window costs {dearer(found):.2f} × one of the second")
    return said


def text(found: Steady) -> str:
    """The tables, what became of the jobs, and what it was measured on."""
    jobs = sum(each.jobs for each in found.windows)
    return "\n".join(
        [
            *_costs(found.windows),
            "",
            *_storage(found.windows),
            "",
            (
                f"A job of the last window cost {dearer(found):.2f} × one of the second. Of"
                f" {jobs:,} jobs, {found.rate:,.0f} a second, {found.refused} were refused,"
                f" {found.missing} were missing, {found.wrong} had not succeeded in their first"
                f" attempt; the audit had {found.findings} findings. The latest `POST` was sent"
                f" {1000 * found.latest:,.0f} ms after it was due."
            ),
            "",
            f"Measured on {report.machine()}.",
        ]
    )


def _costs(windows: Sequence[Window]) -> list[str]:
    roles = [name for name in windows[0].cpu_ms if name != "all"]
    lines = [
        "| until minute | CPU-ms a no-op | " + " | ".join(roles) + " | final, p50 ms | p99 |"
        " memory, MiB | others' CPU |",
        "|--:|" + "--:|" * (len(roles) + 5),
    ]
    for minute, each in _timed(windows):
        cells = [f"{each.cpu_ms[name]:.2f}" for name in ("all", *roles)]
        cells += [f"{each.final_ms.p50:.1f}", f"{each.final_ms.p99:.1f}"]
        cells += [f"{each.memory / MIB:,.0f}", f"{each.others:.0%}"]
        lines.append(f"| {minute:g} | {' | '.join(cells)} |")
    return lines


def _storage(windows: Sequence[Window]) -> list[str]:
    lines = [
        "| until minute | jobs | tables, MiB | indexes, MiB | dead rows | of `job` | autovacuums |",
        "|" + "--:|" * 7,
    ]
    jobs = 0
    for minute, each in _timed(windows):
        jobs += each.jobs
        tables, indexes = each.end.all_bytes
        lines.append(
            f"| {minute:g} | {jobs:,} | {tables / MIB:,.0f} | {indexes / MIB:,.0f}"
            f" | {each.end.dead:,} | {each.end.tables['job'].dead:,} | {each.vacuums} |"
        )
    return lines


def _timed(windows: Sequence[Window]) -> Iterator[tuple[float, Window]]:
    """Each with the minute of its end."""
    seconds = 0.0
    for each in windows:
        seconds += each.seconds
        yield round(seconds / 60, 1), each


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables. 1: a job was lost or is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=Amounts().minutes)
    parser.add_argument("--rate", type=float, default=Amounts().rate, help="jobs a second")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--write", action="store_true", help=f"into {report.REPORT.name}")
    options = parser.parse_args(arguments)
    amounts = TINY if options.tiny else Amounts(minutes=options.minutes, rate=options.rate)
    with tempfile.TemporaryDirectory(prefix="lading-steady-") as folder:
        found = measure(OURS, amounts, Path(folder))
    words = text(found)
    print(words)
    print("\nMissed: " + ("; ".join(missed(found)) or "nothing"))
    if options.json:
        options.json.write_text(json.dumps(_figures(found), indent=2))
    if options.write:
        report.write(words, BEGIN, END)
    return 1 if found.refused or found.missing or found.wrong or found.findings else 0


def _figures(found: Steady) -> dict[str, Any]:
    """All of them, by name."""
    windows = [
        {
            **each._asdict(),
            "final_ms": each.final_ms._asdict(),
            "end": {
                **each.end._asdict(),
                "tables": {name: table._asdict() for name, table in each.end.tables.items()},
            },
        }
        for each in found.windows
    ]
    return {**found._asdict(), "windows": windows, "machine": report.machine()}


if __name__ == "__main__":
    sys.exit(main())
