"""What an attempt takes, told by its own process and by one that looks at it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.attempts import UNKNOWN_USAGE
from worker import usage
from worker.board import Running
from worker.sampler import Sampler
from worker.usage import Meter

MEBIBYTE = 1024 * 1024
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@contextmanager
def growing(mebibytes: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that takes so much once it has been told to, and says so."""
    code = (
        "import sys; sys.stdin.readline();"
        f" held = b'x' * ({mebibytes} * {MEBIBYTE}); print(len(held), flush=True);"
        " sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()


def test_the_peak_of_an_attempt_is_not_that_of_the_one_before() -> None:
    meter = Meter()
    first = meter.begin()
    held = bytes(os.urandom(1)) * (200 * MEBIBYTE)
    del held
    large = meter.end(first, 0)
    second = meter.begin()
    small = meter.end(second, 0)
    assert large.max_rss_bytes is not None
    assert small.max_rss_bytes is not None
    assert large.max_rss_bytes > first.rss + 190 * MEBIBYTE
    assert small.max_rss_bytes < large.max_rss_bytes - 100 * MEBIBYTE


def test_time_and_memory_of_a_process_that_has_ended_count_for_its_parent() -> None:
    meter = Meter()
    start = meter.begin()
    size = max(start.children_peak, start.peak) + 100 * MEBIBYTE
    code = f"held = b'x' * {size}; sum(range(3_000_000))"
    subprocess.run([sys.executable, "-c", code], check=True)
    taken = meter.end(start, 0)
    assert taken.max_rss_bytes is not None
    assert taken.max_rss_bytes > size
    assert taken.cpu_seconds is not None
    assert taken.cpu_seconds > 0.01
    later = meter.end(meter.begin(), 0)
    assert later.max_rss_bytes is not None
    assert later.max_rss_bytes < size


def test_what_the_parent_has_seen_counts_as_well() -> None:
    meter = Meter()
    assert meter.end(meter.begin(), 2**50).max_rss_bytes == 2**50


def test_a_look_takes_in_what_a_process_has_made() -> None:
    with growing(100) as process:
        before = usage.look(os.getpid())
        tell(process)
        after = usage.look(os.getpid())
        child = usage.look(process.pid)
    assert before is not None
    assert after is not None
    assert child is not None
    assert after.memory - before.memory > 90 * MEBIBYTE
    assert child.memory < child.rss < after.rss
    assert usage.look(process.pid) is None


def test_what_a_fork_shares_with_its_parent_counts_once() -> None:
    code = (
        "import os, sys; held = b'x' * (100 << 20); pid = os.fork(); more = b'y' * (30 << 20)"
        " if not pid else b''; print(len(more), flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        members = [pid for pid, _ in usage.family(process.pid)]
        taken = usage.look(process.pid)
        assert process.stdin is not None
        process.stdin.close()
    assert len(members) == 2
    assert taken is not None
    assert 125 * MEBIBYTE < taken.memory < 160 * MEBIBYTE


def test_only_what_an_attempt_adds_counts_against_its_limit() -> None:
    with growing(100) as process:
        sampler, taken = Sampler(), usage.look(process.pid)
        assert taken is not None
        running = Running(
            process.pid,
            uuid4(),
            1,
            time.monotonic(),
            60,
            is_claimed=True,
            memory_limit=MEBIBYTE,
            memory_at_start=taken.memory + 30 * MEBIBYTE,  # of which all is freed at once
        )
        sampler.look([running], time.monotonic())
        assert sampler.used(running) < 5 * MEBIBYTE
        tell(process)
        sampler.look([running], time.monotonic())
        assert 95 * MEBIBYTE < sampler.used(running) < 120 * MEBIBYTE
        assert sampler.peak(running) > 100 * MEBIBYTE
        sampler.look([], time.monotonic())
        assert sampler.used(running) == 0, "what is gone is forgotten"


def test_a_look_before_the_claim_is_not_the_start() -> None:
    with growing(10) as process:
        tell(process)
        sampler, taken, now = Sampler(), usage.look(process.pid), time.monotonic()
        assert taken is not None
        waiting = Running(process.pid, uuid4(), 1, now, 60)
        sampler.look([waiting], now)
        claimed = waiting._replace(
            is_claimed=True, memory_limit=MEBIBYTE, memory_at_start=taken.memory
        )
        sampler.look([claimed], now)
        assert sampler.used(claimed) < MEBIBYTE, "what its process was before is not its own"


def test_without_a_limit_an_attempt_is_looked_at_now_and_then() -> None:
    with growing(100) as process:
        sampler, now = Sampler(), time.monotonic()
        running = Running(process.pid, uuid4(), 1, now, 60, is_claimed=True)
        sampler.look([running], now)
        assert sampler.peak(running) == 0, "a quick one is not looked at"
        sampler.look([running], now + 0.2)
        first = sampler.peak(running)
        assert first > 0
        tell(process)
        sampler.look([running], now + 0.3)
        assert sampler.peak(running) == first
        sampler.look([running], now + 0.8)
        assert sampler.peak(running) > first + 90 * MEBIBYTE


def test_of_an_attempt_that_never_began_nothing_is_known() -> None:
    claiming = Running(os.getpid(), uuid4(), 1, time.monotonic(), 60)
    assert Sampler().total(claiming) == UNKNOWN_USAGE


def test_of_a_dead_process_its_time_and_what_was_seen_are_left() -> None:
    with growing(50) as process:
        sampler, now = Sampler(), time.monotonic()
        running = Running(process.pid, uuid4(), 1, now, 60, is_claimed=True, rss_at_start=1)
        tell(process)
        sampler.look([running], now + 1)
        os.kill(process.pid, 9)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        total = sampler.total(running)
    assert total.max_rss_bytes is not None
    assert total.max_rss_bytes > 50 * MEBIBYTE
    assert total.cpu_seconds is not None
    assert total.cpu_seconds > 0


def kernel_tells_delays() -> bool:
    path = Path("/proc/self/schedstat")
    return path.exists() and path.read_text().split()[0] != "0"


@contextmanager
def one_processor_beside_another() -> Iterator[None]:
    """This process and one that never rests share a processor."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # and of what it starts
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)
        other.kill()
        other.wait()


@pytest.mark.skipif(not kernel_tells_delays(), reason="the kernel does not say")
def test_waiting_for_a_processor_is_not_running() -> None:
    """What it sleeps counts as its own time."""
    with one_processor_beside_another():
        meter = Meter()
        start, began = meter.begin(), time.monotonic()
        time.sleep(0.2)
        while (waited := meter.waited_since(start)) < 0.1:
            assert time.monotonic() < began + 30
    assert 0.1 <= waited < time.monotonic() - began - 0.19
