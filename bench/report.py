"""The figures as tables: for a terminal, and for docs/performance.md."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.peer import ROOT, Peer

REPORT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
BUSY = 0.05  # of the machine, used by others: rates say less then
Median = Mapping[str, Any]
Column = tuple[str, Callable[[Median], str]]


def table(peers: Sequence[Peer], results: Mapping[str, Any]) -> str:
    """Markdown: rates and costs, latency, what it holds, and what is promised."""
    medians = {
        peer.title: results["peers"][peer.name]["median"]
        for peer in peers
        if results["peers"][peer.name]["median"]
    }
    parts = [_table(medians, columns) for columns in (_COSTS, _RATES, _LATENCY, _HELD)]
    in_batches = {title: each for title, each in medians.items() if each.get("batches")}
    if in_batches:
        parts.append(_table(in_batches, _BATCHES))
    if any(each.get("backlog") for each in medians.values()):
        parts.append(_table(medians, _backlogs(medians)))
    parts += [_promises(peers), _footnote(results, medians)]
    return "\n\n".join(parts)


def machine() -> str:
    """What it was measured on."""
    versions = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    memory = psutil.virtual_memory().total / 1024**3
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {versions}, {time.strftime('%Y-%m-%d')}"


def write(text: str, begin: str = BEGIN, end: str = END, *, page: Path = REPORT) -> None:
    """What stands between these markers of the page is the text."""
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{page} has no {begin} … {end}"
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def busiest(median: Median) -> float:
    """The largest share of the machine that strangers used in a phase."""
    names = ("end_to_end", "latency", "drain", "batches", "io")
    found = [median[name] for name in names if name in median]
    found += median.get("submit", {}).values()
    return float(max((each["others"] for each in found), default=0.0))


def _table(medians: Mapping[str, Median], columns: Sequence[Column]) -> str:
    lines = ["| | " + " | ".join(name for name, _ in columns) + " |"]
    lines.append("|---|" + "--:|" * len(columns))
    for title, median in medians.items():
        lines.append(f"| {title} | " + " | ".join(cell(median) for _, cell in columns) + " |")
    return "\n".join(lines)


def _figure(form: str, *path: str) -> Callable[[Median], str]:
    """The figure that lies there, or a dash."""

    def cell(median: Median) -> str:
        found: Any = median
        for name in path:
            found = None if found is None else found.get(name)
        return "–" if found is None else format(found, form)

    return cell


def _times(name: str, phase: str = "latency") -> Callable[[Median], str]:
    def cell(median: Median) -> str:
        found = median.get(phase, {}).get(name)
        return "–" if found is None else " / ".join(f"{ms:.1f}" for ms in found.values())

    return cell


_COSTS: list[Column] = [
    ("CPU-ms a job, end to end", _figure(".2f", "end_to_end", "cpu_ms", "all")),
    ("API", _figure(".2f", "end_to_end", "cpu_ms", "api")),
    ("workers", _figure(".2f", "end_to_end", "cpu_ms", "worker")),
    ("dispatcher", _figure(".2f", "end_to_end", "cpu_ms", "dispatcher")),
    ("PostgreSQL", _figure(".2f", "end_to_end", "cpu_ms", "postgres")),
    ("Redis", _figure(".2f", "end_to_end", "cpu_ms", "redis")),
    ("… to drain it", _figure(".2f", "drain", "cpu_ms", "all")),
    ("… to submit it, 64 connections", _figure(".2f", "submit", "64", "cpu_ms", "all")),
]
_RATES: list[Column] = [
    ("submitted/s, 1 connection", _figure(",.0f", "submit", "1", "rate")),
    ("16", _figure(",.0f", "submit", "16", "rate")),
    ("64", _figure(",.0f", "submit", "64", "rate")),
    ("drained/s", _figure(",.0f", "drain", "rate")),
    ("end to end/s", _figure(",.0f", "end_to_end", "rate")),
    ("jobs of 100 ms/s", _figure(",.0f", "io", "rate")),
    ("… in flight, mean", _figure(",.0f", "io", "in_flight")),
    ("… of at most", _figure(",.0f", "io", "slots")),
    ("… CPU-ms each", _figure(".2f", "io", "cpu_ms", "all")),
]
_BATCHES: list[Column] = [
    ("in batches of 500, two at a time: submitted/s", _figure(",.0f", "batches", "rate")),
    ("CPU-ms a job", _figure(".3f", "batches", "cpu_ms", "all")),
    ("API", _figure(".3f", "batches", "cpu_ms", "api")),
    ("PostgreSQL", _figure(".3f", "batches", "cpu_ms", "postgres")),
    ("a batch answered, p50 / p95 / p99 ms", _times("answered_ms", "batches")),
]
_LATENCY: list[Column] = [
    ("POST answered, p50 / p95 / p99 ms", _times("answered_ms")),
    ("function started", _times("started_ms")),
    ("final status visible", _times("final_ms")),
]
_HELD: list[Column] = [
    ("memory, MiB", _figure(",.0f", "memory_mib", "all")),
    ("idle, CPU-ms a second", _figure(".1f", "idle", "cpu_ms_per_second", "all")),
    ("database, bytes a job", _figure(",.0f", "end_to_end", "bytes_per_job", "database")),
    ("WAL", _figure(",.0f", "end_to_end", "bytes_per_job", "wal")),
    ("Redis", _figure(",.0f", "end_to_end", "bytes_per_job", "redis")),
]


def _backlogs(medians: Mapping[str, Median]) -> list[Column]:
    counts = dict.fromkeys(n for each in medians.values() for n in each.get("backlog") or {})
    columns: list[Column] = []
    for count in counts:
        rate = _figure(",.0f", "backlog", count, "rate")
        columns.append((f"{int(count):,} waiting: drained/s", rate))
        columns.append(("CPU-ms a job", _figure(".2f", "backlog", count, "cpu_ms", "all")))
    return columns


def _promises(peers: Sequence[Peer]) -> str:
    lines = [
        "| | an accepted job is in | kill -9 of its worker | Redis is lost | what can be read |"
    ]
    lines.append("|---|---|---|---|---|")
    lines += [f"| {peer.title} | " + " | ".join(_promise(peer)) + " |" for peer in peers]
    return "\n".join(lines)


def _promise(peer: Peer) -> list[str]:
    promise = peer.promise
    return [promise.lives_in, promise.worker_killed, promise.redis_lost, promise.status]


def _footnote(results: Mapping[str, Any], medians: Mapping[str, Median]) -> str:
    rounds = f"median of {results['rounds']} rounds" if results["rounds"] > 1 else "one round"
    words = f"Measured on {results['machine']}; {rounds}."
    share = max((busiest(each) for each in medians.values()), default=0.0)
    if share > BUSY:
        words += f" Others used up to {share:.0%} of the machine meanwhile: trust the CPU figures."
    return words
