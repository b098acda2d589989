import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from kinds import data_engine
from kinds.data import TransformArgs, transform
from lading import JobCancelled
from lading.context import Attempt
from lading.testing import Run, _Recorder, _stored, run
from tests.eventually import eventually
from tests.kinds.tables import AIRPORTS, made_rows, query

ROOT = Path(__file__).parents[2]
COUNT = "SELECT COUNT(*) AS n FROM t"
# Every row with every other one: hours of work, and next to no memory.
ENDLESS = "SELECT MAX(a.lat * b.lat * c.lat) AS m FROM t a CROSS JOIN t b CROSS JOIN t c"


def engines(parent: int) -> list[psutil.Process]:
    """The engines that this process has started, and that are alive."""
    try:
        children = psutil.Process(parent).children()
    except psutil.NoSuchProcess:
        return []
    return [each for each in children if "kinds.data_process" in " ".join(_command(each))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def scratch_of(engine: psutil.Process) -> Path:
    return Path(engine.cwd())


class CancelledMeanwhile(_Recorder):
    """A cancel is asked for as soon as the query runs; then it remembers which engine ran it."""

    engine: psutil.Process
    asked_at: float | None = None

    def check(self) -> None:
        if self.asked_at is None and any(
            str(message).startswith("running the query") for _, message in self._record.progress
        ):
            (self.engine,) = engines(os.getpid())
            self.scratch = scratch_of(self.engine)
            self.asked_at = time.monotonic()
            raise JobCancelled


def test_a_cancel_ends_the_query_within_a_moment_and_leaves_nothing() -> None:
    file_id, record = uuid4(), Run()
    record.files[file_id] = _stored(file_id, AIRPORTS, "airports.csv", "text/csv")
    context = CancelledMeanwhile(
        Attempt(uuid4(), "data.transform", 1, 0, 5, {}), record, cancelled=False
    )
    args = TransformArgs(inputs={"t": file_id}, sql=ENDLESS, format="csv")
    with pytest.raises(JobCancelled):
        transform(context, args)
    assert context.asked_at is not None
    assert time.monotonic() - context.asked_at < 5
    assert not context.engine.is_running()
    assert not context.scratch.exists()


def test_a_cancelled_job_does_not_begin() -> None:
    file_id = uuid4()
    args = {"inputs": {"t": str(file_id)}, "sql": COUNT, "format": "csv"}
    record = run(transform, args, files={file_id: AIRPORTS}, cancelled=True)
    assert (record.outcome, len(record.files)) == ("cancelled", 1)


HANDLER = f"""
import sys
from pathlib import Path
from uuid import uuid4
from kinds.data import transform
from lading.testing import run
file_id = uuid4()
args = {{"inputs": {{"t": str(file_id)}}, "sql": {ENDLESS!r}, "format": "csv"}}
print("started", flush=True)
print(run(transform, args, files={{file_id: Path(sys.argv[1])}}).outcome)
"""


def test_an_engine_ends_with_the_process_that_started_it() -> None:
    """Killed with -9, it can clean up nothing itself: the engine does."""
    command = [sys.executable, "-c", HANDLER, str(AIRPORTS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            (engine,) = eventually(lambda: engines(process.pid), within=30)
            scratch = scratch_of(engine)
            eventually((scratch / "stderr").exists)
        finally:
            process.kill()
    eventually(lambda: _is_gone(engine))
    eventually(lambda: not scratch.exists())


def test_an_engine_that_was_never_told_its_task_takes_its_folder_along(tmp_path: Path) -> None:
    """Killed with -9 before it could tell, its parent cleans up nothing."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "stderr").touch()
    command = [sys.executable, "-P", "-m", "kinds.data_process", str(folder)]
    subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, input=b"", timeout=60, check=False)
    assert not folder.exists()


def test_an_engine_that_is_killed_is_tried_again() -> None:
    killed: list[int] = []

    def kill_it() -> None:
        (engine,) = eventually(lambda: engines(os.getpid()), within=30)
        killed.append(engine.pid)
        engine.kill()

    killer = threading.Thread(target=kill_it)
    killer.start()
    record = query(ENDLESS, {"t": AIRPORTS})
    killer.join()
    assert killed
    assert record.outcome == "retried"
    assert str(record.error).startswith("the engine ended with -9: killed, as the system does when")


def test_an_engine_that_stands_still_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_engine, "STILL_AFTER", 3.0)
    monkeypatch.setattr(data_engine, "STILL_CPU", 0.02)

    def stop_it() -> None:
        (engine,) = eventually(lambda: engines(os.getpid()), within=30)
        engine.send_signal(signal.SIGSTOP)

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    record = query(COUNT, {"t": AIRPORTS})
    stopper.join()
    assert made_rows(record) == [{"n": "1458"}]
    assert record.logs[0][1].startswith("the engine stood still; it starts again")


def test_an_engine_that_always_stands_still_costs_an_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_engine, "STILL_AFTER", 0.0)
    monkeypatch.setattr(data_engine, "STILL_CPU", 1e9)
    record = query(COUNT, {"t": AIRPORTS})
    assert (record.outcome, str(record.error)) == ("retried", "the engine stood still twice")


def test_an_engine_knows_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LADING_DATABASE_URL", "postgresql://someone:hush@127.0.0.1/jobs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("POLARS_OOC_MEMORY_BUDGET_MB", "1000")
    environment = data_engine._environment(tmp_path, spill=True)
    assert "hush" not in json.dumps(environment)
    assert environment["POLARS_OOC_MEMORY_BUDGET_MB"] == "1000"  # the operator's word counts
    assert "POLARS_OOC_MEMORY_BUDGET_MB" not in data_engine._environment(tmp_path, spill=False)


def test_windows_are_computed_without_spilling() -> None:
    """Polars 2.1 hangs in one of three such queries when it spills."""
    for sql in (
        "SELECT RANK() OVER (ORDER BY a) FROM t",
        "SELECT a FROM t QUALIFY row_number() over (ORDER BY a) = 1",
    ):
        assert data_engine.WINDOW.search(sql)
    assert not data_engine.WINDOW.search("SELECT overall, a FROM t")


FORKING = f"""
import multiprocessing, sys
from pathlib import Path
from uuid import uuid4
from kinds.data import transform
from lading.testing import run

def handle(connection):
    file_id = uuid4()
    args = {{"inputs": {{"t": str(file_id)}}, "sql": {COUNT!r}, "format": "csv"}}
    record = run(transform, args, files={{file_id: Path(sys.argv[1])}})
    connection.send([record.outcome, record.result["rows_in"]["t"], "polars" in sys.modules])

fork = multiprocessing.get_context("fork")
children = [fork.Pipe(duplex=False) for _ in range(3)]
for _, there in children:
    fork.Process(target=handle, args=(there,), daemon=True).start()
print([here.recv() for here, _ in children])
"""


def test_forked_children_run_queries_side_by_side_and_load_no_polars() -> None:
    """As in a prefork worker, whose children are daemons too."""
    found = subprocess.run(
        [sys.executable, "-c", FORKING, str(AIRPORTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == str([["succeeded", 1458, False]] * 3)


def test_importing_the_kinds_loads_no_polars() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, kinds.data; print('polars' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "False"
