"""One of each process beside several: `python -m bench.scale`.

On servers of its own: first one API, one worker and one dispatcher, then two, three and two of
them, on the same PostgreSQL and Valkey; twice by turns. No-ops go in through all APIs; afterwards
every job has to have succeeded in its first attempt, and the audit must find nothing.
`--write` puts the table into docs/performance.md, and what it means for larger ones into
docs/scaling.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench import auditing, generator, report
from bench.accounting import cpu_seconds
from bench.catalogue import OURS
from bench.figures import per_job
from bench.generator import Order
from bench.http import Address
from bench.peer import ROOT, Peer
from bench.programs import Started
from bench.running import POLL, UVICORN, Running, running
from bench.servers import Servers
from dev.ports import free_port, is_open

BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"
EXAMPLE = "<!-- example:begin -->", "<!-- example:end -->"
SCALING = ROOT / "docs" / "scaling.md"
CONNECTIONS = 16  # in all
READY_WITHIN = 60.0  # seconds
RATES = (100, 1000, 10_000)  # jobs a second of the example
BUSY = 0.6  # of a core: beyond, what waits for it waits longer than its work takes
MOST_DEARER = 1.10  # the aim: of the cost of a job with one of each


class Shape(NamedTuple):
    """How many processes."""

    apis: int
    workers: int  #: parents, with two processes each
    dispatchers: int

    @property
    def name(self) -> str:
        return f"{self.apis} × API, {self.workers} × worker, {self.dispatchers} × dispatcher"


ONE, SEVERAL = Shape(1, 1, 1), Shape(2, 3, 2)


class Amounts(NamedTuple):
    """How much."""

    jobs: int = 2000  #: a round, rounded down to what the APIs share
    rounds: int = 3  #: of a turn
    turns: int = 2  #: of each shape
    warm_up: int = 400


TINY = Amounts(jobs=20, rounds=1, turns=1, warm_up=10)


class Round(NamedTuple):
    """So many jobs from the first POST to the last final status."""

    jobs: int
    rate: float  #: jobs a second
    wal_bytes: float  #: a job
    cpu_ms: Mapping[str, float]  #: a job, by role


class Scale(NamedTuple):
    """One run."""

    rounds: Mapping[Shape, Sequence[Round]]
    connections: Mapping[str, int]  #: to PostgreSQL with one of each, by name
    unfinished: int  #: or not succeeded, or not in the first attempt
    missing: int  #: accepted, and not there
    findings: int  #: of the audit


def measure(peer: Peer, amounts: Amounts, logs: Path) -> Scale:
    """All of it. AssertionError, ChildProcessError, TimeoutError when something fails."""
    peer = replace(peer, workers=peer.workers[:1])
    rounds: dict[Shape, list[Round]] = {ONE: [], SEVERAL: []}
    with (
        generator.make_executor() as load,
        Servers() as servers,
        running(peer, servers, load, logs) as platform,
    ):
        crowd = Crowd(platform)
        for _ in range(amounts.turns):
            for shape, found in rounds.items():
                crowd.become(shape)
                crowd.work(amounts.warm_up)
                found += [crowd.work(amounts.jobs) for _ in range(amounts.rounds)]
        crowd.become(ONE)
        connections = dict(_query(servers, _CONNECTIONS))
        there, wrong = auditing.outcome(servers)
        findings = auditing.count_findings(servers)
    missing = crowd.accepted + 1 - there  # one was made when the platform started
    return Scale(rounds, connections, wrong, missing, findings)


class Crowd:
    """The processes of a platform, of which there may be several."""

    def __init__(self, platform: Running) -> None:
        self._platform = platform
        self._ports = [platform.port]
        self._more: dict[str, list[Started]] = {"api": [], "worker": [], "dispatcher": []}
        self.accepted = 0

    def become(self, shape: Shape) -> None:
        """So many of each run and are ready."""
        wanted = {"api": shape.apis, "worker": shape.workers, "dispatcher": shape.dispatchers}
        for role, count in wanted.items():
            while len(self._more[role]) < count - 1:
                self._more[role].append(self._start(role, len(self._more[role]) + 2))
            gone = [self._more[role].pop() for _ in range(len(self._more[role]) - count + 1)]
            for each in gone:
                each.begin_to_stop()
            for each in gone:
                each.stop()
                self._platform.services.pop(each.log.stem)
        del self._ports[shape.apis :]
        self._await(shape)

    def work(self, jobs: int) -> Round:
        """So many no-ops go through, the same number by each API."""
        platform = self._platform
        orders = [_at(platform.order(), port) for port in self._ports]
        each, connections = jobs // len(orders), CONNECTIONS // len(orders)
        before, wal = cpu_seconds(self._groups()), platform.servers.sizes()["wal"]
        made = platform.load.submit(generator.submit_to_each, orders, each, connections).result()
        ids = [job_id for some in made for job_id in some.ids]
        ended = platform.await_all(ids)
        self.accepted += len(ids)
        cpu = per_job(before, cpu_seconds(self._groups()), len(ids))
        grown = platform.servers.sizes()["wal"] - wal
        rate = len(ids) / (ended - min(some.began for some in made))
        return Round(len(ids), rate, grown / len(ids), cpu)

    def _start(self, role: str, number: int) -> Started:
        platform = self._platform
        peer, name = platform.peer, f"{role}-{number}"
        if role == "api":
            self._ports.append(free_port())
            command = UVICORN.format(app=peer.api, port=self._ports[-1]) + peer.api_options
        elif role == "worker":
            command = peer.workers[0].replace("-n worker@", f"-n worker{number}@")
        else:
            assert peer.dispatcher is not None
            command = peer.dispatcher
        log = platform.folder / f"{name}.log"
        started = Started(peer, command, platform.environment(), log)
        platform.services[name] = started  # so that it ends, and is looked after, with the others
        return started

    def _await(self, shape: Shape) -> None:
        end, servers = time.monotonic() + READY_WITHIN, self._platform.servers
        wanted = (shape.workers, shape.dispatchers)
        while not (all(map(is_open, self._ports)) and _query(servers, _ALIVE) == [wanted]):
            self._platform.check()
            if time.monotonic() > end:
                raise TimeoutError(f"not ready: {shape.name}")
            time.sleep(POLL)

    def _groups(self) -> dict[str, list[int]]:
        """By role."""
        found = {name: [*pids] for name, pids in self._platform.groups.items() if "-" not in name}
        for role, more in self._more.items():
            found[role] += [each.pid for each in more]
        return found


def _at(order: Order, port: int) -> Order:
    return order._replace(address=Address(port, order.address.headers))


def _query(servers: Servers, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


_ALIVE = "SELECT (SELECT count(*) FROM worker), (SELECT count(*) FROM dispatcher)"
_CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'lading %' GROUP BY 1 ORDER BY 1
"""


def text(found: Scale) -> str:
    """The table, what became of the jobs, and what it was measured on."""
    rows = {shape: _median(rounds) for shape, rounds in found.rounds.items()}
    roles = [name for name in rows[ONE].cpu_ms if name != "all"]
    lines = [
        "| CPU-ms a no-op | all | " + " | ".join(roles) + " | jobs/s | WAL a job, bytes |",
        "|---|" + "--:|" * (len(roles) + 3),
    ]
    for shape, row in rows.items():
        cells = [f"{row.cpu_ms[name]:.2f}" for name in ("all", *roles)]
        cells += [f"{row.rate:,.0f}", f"{row.wal_bytes:,.0f}"]
        lines.append(f"| {shape.name} | {' | '.join(cells)} |")
    jobs = sum(each.jobs for rounds in found.rounds.values() for each in rounds)
    held = ", ".join(f"`{name}` {count}" for name, count in found.connections.items())
    return "\n".join(
        [
            *lines,
            "",
            (
                f"Of {jobs:,} measured jobs and some to warm up, {found.missing} were missing,"
                f" {found.unfinished} had not succeeded in their first attempt; the audit had"
                f" {found.findings} findings."
            ),
            "",
            f"Connections to PostgreSQL with one of each, as they name themselves: {held}.",
            "",
            f"Measured on {report.machine()}.",
        ]
    )


def example(found: Scale) -> str:
    """Markdown for docs/scaling.md: what some rates need, of what one of each has used."""
    row = _median(found.rounds[ONE])
    roles = [name for name in row.cpu_ms if name != "all"]
    lines = [
        "| jobs a second | cores: " + " | ".join(roles) + " | WAL, MB/s |",
        "|--:|" + "--:|" * (len(roles) + 1),
    ]
    for rate in RATES:
        cores = [rate * row.cpu_ms[name] / 1000 / BUSY for name in roles]
        cells = [f"{each:.1f}" for each in cores] + [f"{rate * row.wal_bytes / 1e6:.1f}"]
        lines.append(f"| {rate:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(rounds: Sequence[Round]) -> Round:
    names = rounds[0].cpu_ms
    return Round(
        rounds[0].jobs,
        statistics.median(each.rate for each in rounds),
        statistics.median(each.wal_bytes for each in rounds),
        {name: statistics.median(each.cpu_ms[name] for each in rounds) for name in names},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table. 1: a job was lost or is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=Amounts().jobs, help="of a round")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--write", action="store_true", help=f"into {report.REPORT.name}")
    options = parser.parse_args(arguments)
    amounts = TINY if options.tiny else Amounts(jobs=options.jobs)
    with tempfile.TemporaryDirectory(prefix="lading-scale-") as folder:
        found = measure(OURS, amounts, Path(folder))
    words = text(found)
    print(words)
    one, several = (_median(found.rounds[shape]).cpu_ms["all"] for shape in (ONE, SEVERAL))
    if several > MOST_DEARER * one:
        print(f"\nMissed: several of each cost {several / one:.2f} times as much a job")
    if options.json:
        shapes = {shape.name: rounds for shape, rounds in found.rounds.items()}
        figures = {**found._asdict(), "rounds": shapes, "machine": report.machine()}
        options.json.write_text(json.dumps(figures, indent=2))
    if options.write:
        report.write(words, BEGIN, END)
        report.write(example(found), *EXAMPLE, page=SCALING)
    return 1 if found.missing or found.unfinished or found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
