"""What a followed job costs the API: `python -m bench.streams --sockets 2000`.

On servers of its own: one API process, PostgreSQL, Valkey; who reads and who writes are processes
beside it, whose CPU is not counted. First many sockets follow a job each, of the API and then of
bench/stream_floor.py; then many follow the same one. `--write` puts the table into
docs/performance.md.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.report import REPORT, machine, write
from bench.stream_readers import Heard, read_all
from bench.stream_servers import Servers, floor, servers
from bench.stream_writer import Written, make_jobs, write_all

BEGIN, END = "<!-- streams:begin -->", "<!-- streams:end -->"
EVENTS = 10  # of each job, besides `created`
FLOOR = "the floor"
FAN_OUT_EVENTS = 50
FAN_OUT_RATE = 5.0  # events a second, each to all of the readers
WARM_UP = 100  # sockets: pools, caches and the allocator's first arenas are not what is asked for
LONGEST = 60.0  # seconds that a phase may take besides what its timetable asks for
TO_OPEN = 180.0  # seconds for all sockets of a phase
IDLE = 5.0  # seconds that idle sockets are looked at
FILES = 3  # descriptors for each socket, and as many again for all else
MILLISECOND, MICROSECOND = 1e-3, 1e-6


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


def each_its_own(
    running: Servers, sockets: int, rate: float, *, name: str = "a job each", idle: float = IDLE
) -> Phase:
    """A socket for each job; EVENTS events of each, `rate` of all of them a second.

    The sockets are looked at for `idle` seconds before.
    """
    jobs = make_jobs(running.settings, sockets)
    return _phase(running, name=name, followed=jobs, jobs=jobs, events=EVENTS, rate=rate, idle=idle)


def by_turns(running: Servers, sockets: int, rate: float, rounds: int) -> list[Phase]:
    """The API's and the floor's rounds; each its own before the one that they compare with."""
    phases = []
    for _ in range(rounds):
        phases.append(each_its_own(running, sockets, rate))
        with floor(running) as least:
            each_its_own(least, WARM_UP, rate)
            phases.append(each_its_own(least, sockets, rate, name=FLOOR))
    return phases


def median(phases: Sequence[Phase]) -> Phase:
    """The one whose CPU is in the middle."""
    return sorted(phases, key=_api_cpu)[(len(phases) - 1) // 2]


def _api_cpu(phase: Phase) -> float:
    return phase.cpu_us_per_delivered["api"]


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
    idle: float = IDLE,
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
        time.sleep(idle)
        before = _cpu(running.pids)
        idle_cpu = (before["api"] - idle_cpu) / idle
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
        ("CPU a delivered event: API", lambda p: f"{_api_cpu(p):.0f} µs"),
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


def turns(rounds: Sequence[Phase]) -> str:
    """What an event cost in each round, if there are several."""
    if len(rounds) == 2:  # noqa: PLR2004 - the API's and the floor's
        return ""
    by_name = {each.name: [of for of in rounds if of.name == each.name] for each in rounds}
    said = [
        f"{name}: {', '.join(f'{_api_cpu(phase):.0f}' for phase in phases)} µs"
        for name, phases in by_name.items()
    ]
    return f"CPU a delivered event, by turns: {'; '.join(said)}. "


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000, help="each with a job of its own")
    parser.add_argument("--readers", type=int, default=1000, help="of the one job; 0: leave it out")
    parser.add_argument("--rate", type=float, default=1000, help="events a second")
    parser.add_argument("--rounds", type=int, default=1, help="of a job each, and of the floor")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--write", action="store_true", help=f"into {REPORT.name}")
    options = parser.parse_args()
    most = max(options.sockets, options.readers)
    _allow_files(FILES * most + 1000)
    with servers(most) as running:
        each_its_own(running, WARM_UP, options.rate)
        rounds = by_turns(running, options.sockets, options.rate, options.rounds)
        phases = [median(rounds[::2]), median(rounds[1::2])]
        if options.readers:
            phases.append(all_the_same(running, options.readers))
    text = f"{table(phases)}\n\n{turns(rounds)}Measured on {machine()}."
    print(text)
    if options.json:
        figures = {
            "machine": machine(),
            "phases": [phase._asdict() for phase in phases],
            "rounds": [phase._asdict() for phase in rounds],
        }
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
