"""What a million finished jobs change: `python -m bench.growth --finished 1000000`.

With servers and a whole platform of its own, and another on empty tables beside it: the cost of a
job by turns; how long reading takes on the full ones, and submitting while old jobs are deleted.
`--write` puts the tables into docs/performance.md.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from bench import auditing, generator, report
from bench.accounting import cpu_seconds
from bench.catalogue import OURS
from bench.figures import Spread, median_of, per_job, spread
from bench.growth_filling import DAYS, fill
from bench.growth_reading import Reading, read_all
from bench.peer import Peer
from bench.running import Running, running
from bench.servers import Servers
from jobs.files import FileStore
from jobs.retention import Terms
from worker import engines
from worker.dispatcher.retention import Retention

BEGIN, END = "<!-- growth:begin -->", "<!-- growth:end -->"
CONNECTIONS = 16
MOST_DEARER = 1.10  # aims: of the cost of a job on empty tables, …
SLOWEST_READ = 50.0  # … ms, the 95th percentile of a page, a filter or a count, and …
MOST_DELAYED = 2.0  # … of the 99th percentile of a submission while nothing is deleted


class Amounts(NamedTuple):
    """How much of each."""

    finished: int = 1_000_000
    jobs: int = 3000  #: a round
    rounds: int = 5
    warm_up: int = 500
    reads: int = 40  #: of each page
    rate: float = 50.0  #: submissions a second while jobs are deleted
    seconds: float = 25.0


TINY = Amounts(finished=2000, jobs=20, rounds=1, warm_up=5, reads=2, rate=20, seconds=0.5)


class Deleting(NamedTuple):
    """Submissions, answered while nothing is deleted, and while retention is at it."""

    before: Spread  #: ms
    during: Spread
    worst_ms: float
    deleted: int
    seconds: float


class Growth(NamedTuple):
    """One run."""

    finished: int
    fill_seconds: float
    bytes_per_finished: float
    empty: Mapping[str, float]  #: CPU-ms a job, by process; medians
    full: Mapping[str, float]
    readings: Sequence[Reading]
    deleting: Deleting
    findings: int  #: of the audit, afterwards


def measure(peer: Peer, amounts: Amounts, logs: Path) -> Growth:
    """All of it. AssertionError, ChildProcessError, TimeoutError when something fails."""
    with (
        generator.make_executor() as load,
        Servers() as bare,
        Servers() as laden,
        running(peer, bare, load, logs / "empty") as empty,
        running(peer, laden, load, logs / "full") as full,
    ):
        size = laden.sizes()["database"]
        took = fill(laden.database_url, amounts.finished)
        grown = laden.sizes()["database"] - size
        costs = _alternately(empty, full, amounts)
        empty.stop_workers()
        readings = read_all(full.order().address, laden.database_url, amounts.reads)
        deleting = _delete(full, amounts)
        full.stop_workers()
        findings = auditing.count_findings(laden)
    return Growth(
        amounts.finished, took, grown / amounts.finished, *costs, readings, deleting, findings
    )


def _alternately(
    empty: Running, full: Running, amounts: Amounts
) -> tuple[dict[str, float], dict[str, float]]:
    """CPU-ms a job by process of each, the medians of rounds that take turns."""
    costs: dict[int, list[dict[str, float]]] = {id(empty): [], id(full): []}
    for jobs, times in ((amounts.warm_up, 2), (amounts.jobs, amounts.rounds)):
        for found in costs.values():
            found.clear()
        for _ in range(times):
            for platform in (empty, full):
                costs[id(platform)].append(_round(platform, jobs))
    return median_of(costs[id(empty)]), median_of(costs[id(full)])


def _round(platform: Running, jobs: int) -> dict[str, float]:
    before = cpu_seconds(platform.groups)
    platform.await_all(_submit(platform, jobs))
    return per_job(before, cpu_seconds(platform.groups), jobs)


def _submit(platform: Running, jobs: int) -> Sequence[str]:
    order = platform.order()
    return platform.load.submit(generator.submit, order, jobs, CONNECTIONS).result().ids


def _delete(platform: Running, amounts: Amounts) -> Deleting:
    """Half of what is there is too old from now on, for a service like the dispatcher's."""
    before = _answers(platform, amounts)
    with _retention(platform.servers, timedelta(days=DAYS / 2)) as deleted:
        began, count = time.monotonic(), deleted()
        during = _answers(platform, amounts)
        count, seconds = deleted() - count, time.monotonic() - began
    return Deleting(spread(before), spread(during), 1000 * max(during), count, seconds)


def _answers(platform: Running, amounts: Amounts) -> list[float]:
    """Seconds until each POST of an open loop was answered."""
    timed = platform.load.submit(
        generator.open_loop,
        platform.order(),
        platform.marks,
        platform.peer.final,
        rate=amounts.rate,
        seconds=amounts.seconds,
    ).result()
    platform.submitted += len(timed)
    return [each.answered for each in timed]


@contextmanager
def _retention(servers: Servers, kept: timedelta) -> Iterator[Callable[[], int]]:
    """The dispatcher's service at its pace, in a thread; what is given tells the deleted jobs."""
    settings = auditing.settings_of(servers)
    terms = Terms(kept, kept, kept, timedelta(days=365), timedelta(days=365), timedelta(days=365))
    stop = threading.Event()

    def run() -> None:
        service = Retention(terms, FileStore(servers.folder / "files"))
        engine = engines.make_engine(settings, name="dispatcher", size=1)
        with engine.connect() as connection:
            while not stop.is_set():
                stop.wait(service.turn(connection).least)
        engine.dispose()

    def count() -> int:
        removed = "SELECT coalesce(sum(removed), 0) FROM intake_total"
        return int(servers.query(removed))

    thread = threading.Thread(target=run, name="retention", daemon=True)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def text(found: Growth) -> str:
    """Two tables, and what they were measured on."""
    return "\n\n".join(
        [_costs(found), _readings(found.readings), f"Measured on {report.machine()}."]
    )


def _costs(found: Growth) -> str:
    lines = [f"| CPU-ms a no-op | empty | {found.finished:,} finished | |", "|---|--:|--:|--:|"]
    for name, before in found.empty.items():
        after = found.full[name]
        lines.append(f"| {name} | {before:.3f} | {after:.3f} | {_change(before, after)} |")
    calm, busy = found.deleting.before, found.deleting.during
    rate = found.deleting.deleted / found.deleting.seconds
    lines += [
        "",
        f"| `POST /v1/jobs` answered, ms | nothing is deleted | {rate:,.0f} jobs a second are | |",
        "|---|--:|--:|--:|",
        *(
            f"| {name} | {before:.1f} | {during:.1f} | × {during / before:.2f} |"
            for name, before, during in zip(calm._fields, calm, busy, strict=True)
        ),
        "",
        _rest(found),
    ]
    return "\n".join(lines)


def _rest(found: Growth) -> str:
    return (
        f"The slowest answer took {found.deleting.worst_ms:.0f} ms. A finished job takes"
        f" {found.bytes_per_finished:,.0f} bytes of the database, with its events, its attempt and"
        f" all indexes. An audit of all that was left: {found.findings} findings."
    )


def _change(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.0f} %" if before else ""


def _readings(readings: Sequence[Reading]) -> str:
    lines = ["| read there | jobs | p50, ms | p95, ms |", "|---|--:|--:|--:|"]
    for each in readings:
        times = each.milliseconds
        shown = f"{each.items}" if each.items is not None else ""
        lines.append(f"| {each.what} | {shown} | {times.p50:.1f} | {times.p95:.1f} |")
    return "\n".join(lines)


def missed(found: Growth) -> list[str]:
    """The aims that were."""
    said = []
    before, after = found.empty["all"], found.full["all"]
    if after > MOST_DEARER * before:
        said.append(f"a job costs {_change(before, after)}")
    said += [
        f"{each.what}: {each.milliseconds.p95:.0f} ms"
        for each in found.readings
        if each.milliseconds.p95 > SLOWEST_READ
    ]
    delayed = found.deleting.during.p99 / found.deleting.before.p99
    if delayed > MOST_DELAYED:
        said.append(f"submissions during deletion: × {delayed:.2f}")
    if found.findings:
        said.append(f"the audit has {found.findings} findings")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables. 1: something is broken, which is not said of a missed aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=Amounts().finished, help="jobs")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--write", action="store_true", help=f"into {report.REPORT.name}")
    options = parser.parse_args(arguments)
    amounts = TINY if options.tiny else Amounts(finished=options.finished)
    with tempfile.TemporaryDirectory(prefix="lading-growth-") as folder:
        found = measure(OURS, amounts, Path(folder))
    words = text(found)
    print(words)
    print("\nMissed: " + ("; ".join(missed(found)) or "nothing"))
    if options.json:
        figures: dict[str, Any] = {**found._asdict(), "machine": report.machine()}
        options.json.write_text(json.dumps(figures, indent=2, default=str))
    if options.write:
        report.write(words, BEGIN, END)
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
