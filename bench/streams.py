"""What a followed job costs the API: `python -m bench.streams --sockets 2000`.

On servers of its own: one API process, PostgreSQL, Valkey; who reads and who writes are processes
beside it, whose CPU is not counted. First many sockets follow a job each, then many follow the same
one. `--write` puts the table into docs/performance.md.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import psutil
from pydantic import SecretStr

from bench.report import REPORT, machine, write
from bench.stream_readers import Address, Heard, read_all
from bench.stream_writer import PROJECT, Written, make_jobs, write_all
from dev.ports import LOOPBACK, free_port
from dev.postgres import temporary_postgres
from dev.valkey import temporary_valkey
from jobs.database import make_engine
from jobs.keys.store import create_key
from jobs.settings import Settings

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- streams:begin -->", "<!-- streams:end -->"
EVENTS = 10  # of each job, besides `created`
FAN_OUT_EVENTS = 50
FAN_OUT_RATE = 5.0  # events a second, each to all of the readers
WARM_UP = 100  # sockets: pools, caches and the allocator's first arenas are not what is asked for
LONGEST = 60.0  # seconds that a phase may take besides what its timetable asks for
TO_OPEN = 180.0  # seconds for all sockets of a phase
IDLE = 5.0  # seconds that idle sockets are looked at
SPARE_SOCKETS = 100
FILES = 3  # descriptors for each socket, and as many again for all else
MILLISECOND, MICROSECOND = 1e-3, 1e-6


class Servers(NamedTuple):
    """What was started."""

    settings: Settings
    address: Address
    pids: Mapping[str, int]  #: by name


class Phase(NamedTuple):
    """Sockets that are open and idle, and then get events."""

    name: str
    sockets: int
    events: int  #: written
    delivered: int
    missing: int
    repeated: int
    seconds: float  #: from the first commit to the last receipt
    idle_kib_per_socket: float  #: RSS of the API
    idle_cpu_percent: float  #: of one core, all sockets together
    cpu_us_per_delivered: Mapping[str, float]  #: by server
    bytes_per_delivered: float
    p50_ms: float  #: from commit to receipt
    p99_ms: float
    worst_ms: float
    written_per_second: float
    late_p99_ms: float  #: how far the writer was behind its timetable


@contextmanager
def servers(sockets: int) -> Iterator[Servers]:
    """All of them, started, with a key for so many sockets."""
    with (
        temporary_postgres() as postgres,
        temporary_valkey() as valkey,
        tempfile.TemporaryDirectory(prefix="lading-bench-") as folder,
    ):
        names = {
            "LADING_DATABASE_URL": postgres.url,
            "LADING_BROKER_URL": valkey.url,
            "LADING_FILES_DIR": folder,
            "LADING_SOCKETS_PER_KEY": str(sockets + SPARE_SOCKETS),
        }
        environment = {**os.environ, **names}
        migrate = [sys.executable, "-m", "alembic", "upgrade", "head"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True, capture_output=True)  # noqa: S603
        settings = Settings(database_url=SecretStr(postgres.url), broker_url=SecretStr(valkey.url))
        port = free_port()
        with (Path(folder) / "api.log").open("wb") as log:
            api = subprocess.Popen(  # noqa: S603
                _api(port), cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        try:
            _await_ready(api, port, Path(folder) / "api.log")
            assert postgres.pid is not None
            assert valkey.pid is not None
            pids = {"api": api.pid, "postgres": postgres.pid, "redis": valkey.pid}
            yield Servers(settings, Address(port, _key(settings)), pids)
        finally:
            api.terminate()
            try:
                api.wait(30)
            finally:
                api.kill()


def _api(port: int) -> list[str]:
    """As the image starts it."""
    command = [sys.executable, "-m", "uvicorn", "api.main:app", "--host", LOOPBACK]
    command += ["--port", str(port), "--ws-max-size", "2097152"]
    return [*command, "--ws-per-message-deflate", "false", "--timeout-graceful-shutdown", "20"]


def _await_ready(api: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        assert api.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        try:
            with urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)


def _key(settings: Settings) -> str:
    engine = make_engine(settings, name="bench", size=1)
    with engine.begin() as connection:
        key: str = create_key(connection, PROJECT, "bench")[1]
    engine.dispose()
    return key


def each_its_own(running: Servers, sockets: int, rate: float) -> Phase:
    """A socket for each job; EVENTS events of each, `rate` of all of them a second."""
    jobs = make_jobs(running.settings, sockets)
    return _phase(running, name="a job each", followed=jobs, jobs=jobs, events=EVENTS, rate=rate)


def all_the_same(running: Servers, readers: int) -> Phase:
    """One job, which all of them follow."""
    (job,) = make_jobs(running.settings, 1)
    return _phase(
        running,
        name="one job for all",
        followed=[job] * readers,
        jobs=[job],
        events=FAN_OUT_EVENTS,
        rate=FAN_OUT_RATE,
    )


def _phase(
    running: Servers,
    *,
    name: str,
    followed: Sequence[str],
    jobs: Sequence[str],
    events: int,
    rate: float,
) -> Phase:
    api = psutil.Process(running.pids["api"])
    rss = api.memory_info().rss
    expected, longest = len(followed) * events, len(jobs) * events / rate + LONGEST
    with (
        _process(read_all, running.address, [*followed], longest) as readers,
        _process(write_all, running.settings, [*jobs], events, rate) as writer,
    ):
        assert _hear(readers, TO_OPEN) == "open"
        assert _hear(writer, TO_OPEN) == "ready"
        idle_cpu = _cpu(running.pids)["api"]
        time.sleep(IDLE)
        before = _cpu(running.pids)
        idle_cpu = (before["api"] - idle_cpu) / IDLE
        idle_kib = (api.memory_info().rss - rss) / len(followed) / 1024
        readers.send(expected)
        writer.send(time.monotonic() + 0.2)
        written: list[Written] = _hear(writer, 2 * longest)
        heard: Heard = _hear(readers, 2 * longest)
        spent = {each: cpu - before[each] for each, cpu in _cpu(running.pids).items()}
    delays = _delays(written, heard)
    distinct = len({each[:3] for each in heard.events})
    begin, end = min(each.at for each in written), max(each.at for each in heard.events)
    writing = max(each.at for each in written) - begin
    return Phase(
        name=name,
        sockets=len(followed),
        events=len(written),
        delivered=len(heard.events),
        missing=expected - distinct,
        repeated=len(heard.events) - distinct,
        seconds=end - begin,
        idle_kib_per_socket=idle_kib,
        idle_cpu_percent=100 * idle_cpu,
        cpu_us_per_delivered={
            each: cpu / len(heard.events) / MICROSECOND for each, cpu in spent.items()
        },
        bytes_per_delivered=heard.wire_bytes / len(heard.events),
        p50_ms=_share(delays, 0.50) / MILLISECOND,
        p99_ms=_share(delays, 0.99) / MILLISECOND,
        worst_ms=delays[-1] / MILLISECOND,
        written_per_second=len(written) / writing,
        late_p99_ms=_share(sorted(each.late for each in written), 0.99) / MILLISECOND,
    )


def _delays(written: Sequence[Written], heard: Heard) -> list[float]:
    """Seconds from the commit to each receipt, sorted."""
    at = {(each.job_id, each.seq): each.at for each in written}
    return sorted(each.at - at[each.job_id, each.seq] for each in heard.events)


def _share(ordered: Sequence[float], share: float) -> float:
    """That quantile, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _hear(pipe: Connection, seconds: float) -> Any:
    assert pipe.poll(seconds), "a reader or writer has not answered"
    return pipe.recv()


@contextmanager
def _process(function: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """The function in a process of its own, and this end of its pipe."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=function, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.join(10)
        process.kill()


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU-seconds so far of each server with its children, dead ones included."""
    spent = {}
    for name, pid in pids.items():
        parent = psutil.Process(pid)
        own = parent.cpu_times()
        spent[name] = own.children_user + own.children_system
        for each in (parent, *parent.children(recursive=True)):
            times = each.cpu_times()
            spent[name] += times.user + times.system
    return spent


def table(phases: Sequence[Phase]) -> str:
    """Markdown: a column for each phase."""
    rows: list[tuple[str, Callable[[Phase], str]]] = [
        ("sockets", lambda p: f"{p.sockets:,}"),
        ("events written, a second", lambda p: f"{p.events:,}, {p.written_per_second:,.0f}"),
        (
            "events delivered, a second",
            lambda p: f"{p.delivered:,}, {p.delivered / p.seconds:,.0f}",
        ),
        ("… missing, repeated", lambda p: f"{p.missing}, {p.repeated}"),
        ("from commit to receipt: p50", lambda p: f"{p.p50_ms:.1f} ms"),
        ("… p99", lambda p: f"{p.p99_ms:.1f} ms"),
        ("… worst", lambda p: f"{p.worst_ms:.0f} ms"),
        ("CPU a delivered event: API", lambda p: f"{p.cpu_us_per_delivered['api']:.0f} µs"),
        (
            "… PostgreSQL, writing included",
            lambda p: f"{p.cpu_us_per_delivered['postgres']:.0f} µs",
        ),
        ("… Redis", lambda p: f"{p.cpu_us_per_delivered['redis']:.0f} µs"),
        ("bytes a delivered event", lambda p: f"{p.bytes_per_delivered:.0f}"),
        ("memory (RSS) of an idle socket", lambda p: f"{p.idle_kib_per_socket:.1f} KiB"),
        ("CPU of all idle sockets", lambda p: f"{p.idle_cpu_percent:.1f} % of a core"),
        ("the writer's lateness, p99", lambda p: f"{p.late_p99_ms:.1f} ms"),
    ]
    lines = ["| | " + " | ".join(phase.name for phase in phases) + " |"]
    lines.append("|---|" + "--:|" * len(phases))
    for name, cell in rows:
        lines.append(f"| {name} | " + " | ".join(cell(phase) for phase in phases) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000, help="each with a job of its own")
    parser.add_argument("--readers", type=int, default=1000, help="of the one job; 0: leave it out")
    parser.add_argument("--rate", type=float, default=1000, help="events a second")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--write", action="store_true", help=f"into {REPORT.name}")
    options = parser.parse_args()
    most = max(options.sockets, options.readers)
    _allow_files(FILES * most + 1000)
    with servers(most) as running:
        each_its_own(running, WARM_UP, options.rate)
        phases = [each_its_own(running, options.sockets, options.rate)]
        if options.readers:
            phases.append(all_the_same(running, options.readers))
    text = f"{table(phases)}\n\nMeasured on {machine()}."
    print(text)
    if options.json:
        figures = {"machine": machine(), "phases": [phase._asdict() for phase in phases]}
        options.json.write_text(json.dumps(figures, indent=2))
    if options.write:
        write(text, BEGIN, END)


def _allow_files(wanted: int) -> None:
    """Sockets are files; children have the same limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    main()
