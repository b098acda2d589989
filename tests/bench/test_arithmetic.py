"""What the bench adds up."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from bench.accounting import Peaks, cpu_seconds, memory_bytes
from bench.figures import median_of, per_job, quantile, spread
from tests.eventually import eventually

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def test_children_that_have_ended_count_at_every_depth() -> None:
    """A head whose child lives, whose own child has burnt half a second of CPU and is gone."""
    grandchild = BURN.format(seconds=0.4)
    child = textwrap.dedent(
        f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", {grandchild!r}], check=True)
        print("burnt", flush=True)
        sys.stdin.read()
        """
    )
    head = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", head], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "burnt\n"
        spent = cpu_seconds({"family": [process.pid], "nobody": []})
        process.stdin.close()
    assert 0.35 <= spent["family"] < 2.0
    assert spent["nobody"] == 0


def test_families_are_told_apart_and_strangers_left_out() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", BURN.format(seconds=0.2)]) as burning,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle,
    ):
        assert idle.stdin
        groups = {"burning": [burning.pid], "idle": [idle.pid]}
        eventually(lambda: cpu_seconds(groups)["burning"] > 0.15, within=10)
        assert cpu_seconds(groups)["idle"] < 0.15
        idle.stdin.write(b"\n")
        idle.stdin.close()


def test_a_peak_of_memory_is_kept_after_it_is_over() -> None:
    size = 64 * 1024**2
    script = f"x = bytearray({size})\nprint(flush=True)\ninput()\ndel x\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        groups = {"one": [process.pid]}
        with Peaks(groups) as peaks:
            eventually(lambda: peaks.most.get("one", 0) > size, within=10)
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            assert memory_bytes(groups)["one"] < size
        assert peaks.most["one"] > size
        process.stdin.close()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1, 100)])
def test_quantiles_are_by_nearest_rank(share: float, expected: int) -> None:
    assert quantile(range(1, 101), share) == expected


def test_a_quantile_of_one_value_is_that_value() -> None:
    assert spread([0.002]) == (2, 2, 2)


def test_times_come_in_milliseconds_whatever_their_order() -> None:
    assert spread([0.003, 0.001, 0.002]) == (2, 3, 3)


def test_cpu_is_for_each_job_and_adds_up() -> None:
    found = per_job({"api": 1.0, "worker": 2.0}, {"api": 1.5, "worker": 3.5}, 1000)
    assert found == pytest.approx({"api": 0.5, "worker": 1.5, "all": 2.0})


def test_medians_are_taken_number_by_number() -> None:
    rounds = [{"a": 1, "b": {"c": 9}}, {"a": 3, "b": {"c": 7}}, {"a": 2}]
    assert median_of(rounds) == {"a": 2, "b": {"c": 8}}
    assert median_of([]) is None


def test_the_clock_of_marks_is_that_of_all_processes() -> None:
    before = time.monotonic()
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.monotonic())"],
        check=True,
        capture_output=True,
        env=os.environ,
    ).stdout
    assert before < float(said) < time.monotonic()
