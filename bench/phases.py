"""What is measured of a peer, phase by phase; each gives its figures by name.

CPU is that of the peer's processes and of both servers, never that of the load. `others`: the
share of the machine that was used by none of ours meanwhile; with more than a few percent of it,
rates and latencies are not worth much.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from bench import generator
from bench.accounting import Peaks, cpu_seconds, machine_seconds
from bench.figures import per_job, spread
from bench.generator import Submitted, await_mark, listen_for_marks
from bench.running import FIRST_WITHIN, Running

GATE = "gate"
END_TO_END_CONNECTIONS = 16
BACKLOG_CONNECTIONS = 64
CONNECTIONS = (1, 16, 64)
BATCH, BATCH_CONNECTIONS = 500, 2  # jobs of a batch, and batches that are under way
PHASES = ("idle", "end_to_end", "latency", "drain", "batches", "io", "backlog")

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each phase."""

    settle: float = 1.0  #: seconds before a phase, in which the one before it ends its writing
    warm_up: int = 200
    end_to_end: int = 3000
    alone: int = 500  #: submitted by one connection
    submitted: int = 2000  #: by 16, and by 64
    batches: int = 40
    latency_seconds: float = 20.0
    rate: float = 50.0  #: jobs a second of the open loop
    idle_seconds: float = 10.0
    io: int = 5000
    io_wait: float = 0.1  #: seconds of each
    backlogs: tuple[int, ...] = (5_000, 50_000)  #: only the first of them in later rounds


QUICK = Amounts(
    settle=0.3,
    warm_up=100,
    end_to_end=600,
    alone=100,
    submitted=300,
    batches=4,
    latency_seconds=3,
    idle_seconds=2,
    io=1000,
    backlogs=(),
)
TINY = Amounts(
    settle=0,
    warm_up=10,
    end_to_end=20,
    alone=5,
    submitted=20,
    batches=2,
    latency_seconds=0.2,
    idle_seconds=0.2,
    io=20,
    io_wait=0.01,
    backlogs=(),
)


def measure(running: Running, amounts: Amounts, phases: Collection[str] = PHASES) -> Figures:
    """These phases, in an order that disturbs none of them."""
    running.settle = amounts.settle
    _submit_and_finish(running, amounts.warm_up)
    found: Figures = {}
    with Peaks(running.groups) as peaks:
        if "idle" in phases:
            found["idle"] = idle(running, amounts.idle_seconds)
        if "end_to_end" in phases:
            found["end_to_end"] = end_to_end(running, amounts.end_to_end)
        if "latency" in phases:
            found["latency"] = latency(running, amounts.rate, amounts.latency_seconds)
    held = {name: size / 1024**2 for name, size in peaks.most.items()}
    found["memory_mib"] = held | {"all": sum(held.values())}
    if "drain" in phases:
        found |= submit_and_drain(running, amounts)
    if "batches" in phases and running.peer.batch_path is not None:
        found["batches"] = batches(running, running.peer.batch_path, amounts.batches)
    if "io" in phases:
        found["io"] = waiting_jobs(running, amounts.io, amounts.io_wait)
    if "backlog" in phases:
        found["backlog"] = {str(count): backlog(running, count) for count in amounts.backlogs}
    return found


def idle(running: Running, seconds: float) -> Figures:
    """CPU-ms a second of all that runs and has nothing to do."""
    time.sleep(running.settle)
    before, began = cpu_seconds(running.groups), time.monotonic()
    time.sleep(seconds)
    after, took = cpu_seconds(running.groups), time.monotonic() - began
    spent = per_job(before, after, 1)
    return {"cpu_ms_per_second": {name: ms / took for name, ms in spent.items()}}


def end_to_end(running: Running, jobs: int) -> Figures:
    """Jobs that are submitted while the workers make them, until the last is final."""
    time.sleep(running.settle)
    sizes = running.servers.sizes()
    with _others() as others:
        before = cpu_seconds(running.groups)
        made = _submit(running, jobs, END_TO_END_CONNECTIONS)
        ended = running.await_all(made.ids)
        after = cpu_seconds(running.groups)
    grown = {name: size - sizes[name] for name, size in running.servers.sizes().items()}
    return {
        "rate": jobs / (ended - made.began),
        "cpu_ms": per_job(before, after, jobs),
        "bytes_per_job": {name: size / jobs for name, size in grown.items()},
        "others": others(),
    }


def latency(running: Running, rate: float, seconds: float) -> Figures:
    """From the sending of a POST: to its answer, the start of the function, a final status."""
    time.sleep(running.settle)
    with _others() as others:
        timed = running.load.submit(
            generator.open_loop,
            running.order(),
            running.marks,
            running.peer.final,
            rate=rate,
            seconds=seconds,
        ).result()
    running.submitted += len(timed)
    return {
        "answered_ms": spread(each.answered for each in timed)._asdict(),
        "started_ms": spread(each.started for each in timed)._asdict(),
        "final_ms": spread(each.final for each in timed)._asdict(),
        "late_ms": spread(each.late for each in timed)._asdict(),
        "others": others(),
    }


def submit_and_drain(running: Running, amounts: Amounts) -> Figures:
    """Submitted while no worker runs; then they run."""
    running.stop_workers()
    submits, ids, token = {}, list[str](), GATE
    for connections in CONNECTIONS:
        count = amounts.alone if connections == 1 else amounts.submitted
        time.sleep(running.settle)
        with _others() as others:
            before = cpu_seconds(running.groups)
            made = _submit(running, count, connections, token)
            after = cpu_seconds(running.groups)
        ids += made.ids
        token = ""  # the gate is in
        submits[str(connections)] = {
            "rate": count / made.seconds,
            "answered_ms": spread(made.answer_seconds)._asdict(),
            "cpu_ms": per_job(before, after, count),
            "others": others(),
        }
    return {"submit": submits, "drain": _drain(running, ids)}


def batches(running: Running, path: str, count: int) -> Figures:
    """So many batches are submitted while no worker runs."""
    running.stop_workers()
    time.sleep(running.settle)
    with _others() as others:
        before = cpu_seconds(running.groups)
        made = running.load.submit(
            generator.submit_batches, running.order(), path, count, BATCH, BATCH_CONNECTIONS
        ).result()
        after = cpu_seconds(running.groups)
    running.start_workers()
    running.await_all(made.ids)
    return {
        "rate": len(made.ids) / made.seconds,
        "answered_ms": spread(made.answer_seconds)._asdict(),
        "cpu_ms": per_job(before, after, len(made.ids)),
        "others": others(),
    }


def backlog(running: Running, count: int) -> Figures:
    """So many jobs wait when the workers come."""
    running.stop_workers()
    made = _submit(running, count, BACKLOG_CONNECTIONS, GATE)
    return _drain(running, made.ids) | {"submit_rate": count / made.seconds}


def waiting_jobs(running: Running, count: int, wait: float) -> Figures:
    """Jobs that do nothing but wait, as many at once as the workers hold."""
    running.stop_workers()
    order = running.order(waits=wait)
    made = running.load.submit(generator.submit, order, count, BACKLOG_CONNECTIONS, GATE).result()
    found = _drain(running, made.ids, for_io=True)
    return found | {"slots": running.peer.io_slots, "in_flight": found["rate"] * wait}


def _drain(running: Running, ids: Sequence[str], *, for_io: bool = False) -> Figures:
    """The clock starts with the first job: what it takes workers to get up is not asked for."""
    time.sleep(running.settle)
    with listen_for_marks(running.marks) as listener, _others() as others:
        running.start_workers(for_io=for_io)
        began = await_mark(listener, GATE, FIRST_WITHIN)
        before = cpu_seconds(running.groups)
        ended = running.await_all(ids)
        after = cpu_seconds(running.groups)
    return {
        "rate": len(ids) / (ended - began),
        "cpu_ms": per_job(before, after, len(ids)),
        "others": others(),
    }


def _submit_and_finish(running: Running, jobs: int) -> None:
    running.await_all(_submit(running, jobs, END_TO_END_CONNECTIONS).ids)


def _submit(running: Running, jobs: int, connections: int, token: str = "") -> Submitted:
    return running.load.submit(generator.submit, running.order(), jobs, connections, token).result()


@contextmanager
def _others() -> Iterator[Callable[[], float]]:
    """Of all CPUs, the share that strangers used while this was entered."""
    cores, ours = psutil.cpu_count() or 1, {"ours": [os.getpid()]}
    began, all_before = time.monotonic(), machine_seconds()
    ours_before, share = cpu_seconds(ours)["ours"], 0.0
    yield lambda: share
    used = machine_seconds() - all_before - (cpu_seconds(ours)["ours"] - ours_before)
    share = max(0.0, used / (time.monotonic() - began) / cores)
