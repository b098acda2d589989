"""Heartbeats, leases, the self-fence, and a database that goes away: on servers of its own."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from dev.postgres import EmbeddedPostgres, temporary_postgres
from jobs import workers
from jobs.settings import Settings
from jobs.states import JobState
from tests.conftest import create_database, migrate
from tests.eventually import eventually
from tests.worker.nodes import WorkerNode
from tests.worker.platform import Platform

LEASE = 6.0  # seconds: a beat each second, the fence after four
QUEUES = {"prefork": ["default"], "threads": ["io"]}


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Not the one that other modules use: this one is stopped and started."""
    with temporary_postgres() as server:
        create_database(server, "migrated")
        migrate(server.url_of("migrated"))
        yield server


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_seconds": LEASE})


@pytest.fixture(scope="module", params=["prefork", "threads"])
def node(
    request: pytest.FixtureRequest, settings: Settings, platform: Platform
) -> Iterator[WorkerNode]:
    """`patient` is one on processes that takes its time to stop."""
    platform.execute("DELETE FROM worker")
    patience = {"soft_shutdown_seconds": 60.0} if request.param == "patient" else {}
    pool = "prefork" if patience else request.param
    node = WorkerNode(settings.model_copy(update=patience), pool)
    node.ready()
    yield node
    node.teardown()


def test_a_worker_says_who_it_is(node: WorkerNode, settings: Settings, engine: Engine) -> None:
    with engine.connect() as connection:
        (worker,) = workers.list_workers(connection, settings.lease)
        kinds = connection.execute(sa.text("SELECT kinds FROM worker")).scalar_one()
    assert (worker.pid, worker.pool, worker.slots) == (node.pid, node.pool, 2)
    assert worker.queues == QUEUES[node.pool]
    assert {"test.echo", "test.echo_io", "demo.sleep"} <= set(kinds)
    assert worker.running == 0


def test_a_lease_is_renewed_while_the_attempt_runs(
    node: WorkerNode, platform: Platform, notes: Path
) -> None:
    kind = {"prefork": "odd.waits_deafly", "threads": "odd.waits_deafly_io"}[node.pool]
    job = platform.start(kind, {"path": str(notes), "seconds": 50})
    first = platform.row(job).lease_until
    eventually(lambda: platform.row(job).lease_until > first)
    Path(f"{notes}.go").touch()
    assert platform.finish(job).state is JobState.SUCCEEDED
    assert platform.types(job) == ["created", "started", "succeeded"]


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_a_long_call_in_a_child_does_not_stop_the_beat(
    node: WorkerNode, platform: Platform, notes: Path
) -> None:
    job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": LEASE + 1})
    eventually(partial(_says, notes, "start"))
    (child,) = {pid for pid in node.children if str(pid) in notes.read_text()}
    psutil.Process(child).suspend()
    before = platform.row(job).lease_until
    eventually(lambda: platform.row(job).lease_until > before)
    psutil.Process(child).resume()
    assert platform.finish(job).state is JobState.SUCCEEDED


def test_a_finished_attempt_survives_a_restart_of_the_database(
    node: WorkerNode, platform: Platform, postgres: EmbeddedPostgres, engine: Engine, notes: Path
) -> None:
    kind = {"prefork": "odd.sleeps_on", "threads": "odd.sleeps_on_io"}[node.pool]
    job = platform.start(kind, {"path": str(notes), "seconds": 1})
    postgres.stop()
    eventually(partial(_says, notes, "end"))  # and its report finds nobody
    postgres.start()
    engine.dispose()
    assert platform.finish(job).state is JobState.SUCCEEDED
    assert platform.types(job) == ["created", "started", "succeeded"]


def test_a_worker_without_database_ends_its_attempts_and_tells_later(
    node: WorkerNode, platform: Platform, postgres: EmbeddedPostgres, engine: Engine, notes: Path
) -> None:
    kind = {"prefork": "odd.sleeps_on", "threads": "odd.tells_its_end_io"}[node.pool]
    job = platform.start(kind, {"path": str(notes), "seconds": 50})
    eventually(notes.exists)
    children = set(node.children)
    postgres.stop()
    if node.pool == "prefork":
        eventually(lambda: children - set(node.children), within=LEASE + 30)
    else:
        eventually(partial(_says, notes, "end"), within=LEASE + 30)
    postgres.start()
    engine.dispose()
    row = platform.ended(job)
    assert (row.state, row.crashes, row.failures) == (JobState.QUEUED, 0, 0)
    assert platform.types(job) == ["created", "started", "interrupted"]
    echo = {"prefork": "test.echo", "threads": "test.echo_io"}[node.pool]
    assert platform.run(echo).state is JobState.SUCCEEDED
    platform.cancel(job)


@pytest.mark.parametrize("node", ["patient"], indirect=True)
def test_a_worker_that_stops_waits_a_little_for_the_database_to_tell_it_its_ends(
    node: WorkerNode, platform: Platform, postgres: EmbeddedPostgres, engine: Engine, tmp_path: Path
) -> None:
    """One attempt has its result and cannot say so; one is interrupted, and that cannot be said."""
    done, cut = (
        platform.start("odd.sleeps_on", {"path": str(tmp_path / name), "seconds": seconds})
        for name, seconds in {"done": 1, "cut": 50}.items()
    )
    postgres.stop()
    eventually(partial(_says, tmp_path / "done", "end"))
    node.process.send_signal(signal.SIGTERM)
    eventually(lambda: "worker stopping" in node.logs())
    node.process.send_signal(signal.SIGTERM)
    eventually(lambda: "killing a pool process" in node.logs())
    postgres.start()
    engine.dispose()
    assert node.process.wait(30) == 0
    assert platform.row(done).state is JobState.SUCCEEDED
    row = platform.row(cut)
    assert (row.state, row.crashes) == (JobState.QUEUED, 0)
    assert platform.types(cut) == ["created", "started", "interrupted"]
    platform.cancel(cut)


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_each_process_has_connections_of_its_own(
    node: WorkerNode, platform: Platform, tmp_path: Path
) -> None:
    names = ("one", "other")
    jobs = [
        platform.start("test.waits", {"path": str(tmp_path / name), "seconds": 50})
        for name in names
    ]
    parent = _ports(node.pid)
    first, second = (_ports(pid) - parent for pid in node.children)
    assert first
    assert second
    assert not first & second
    for name in names:
        (tmp_path / f"{name}.go").touch()
    for job in jobs:
        assert platform.finish(job).state is JobState.SUCCEEDED


@pytest.mark.parametrize("node", ["threads"], indirect=True)
def test_a_deaf_handler_on_a_thread_ends_its_process_at_its_limit(
    node: WorkerNode, platform: Platform, notes: Path, tmp_path: Path
) -> None:
    innocent = platform.start("test.waits_io", {"path": str(tmp_path / "other"), "seconds": 50})
    deaf = platform.start("odd.deaf_thread", {"path": str(notes), "seconds": 50})
    assert node.process.wait(40) != 0
    row = platform.row(deaf)
    assert (row.state, row.error["cause"]) == (JobState.FAILED, "timeout")
    assert platform.row(innocent).state is JobState.QUEUED
    assert platform.types(innocent)[-1] == "interrupted"
    platform.cancel(innocent)
    node.restart()


@pytest.mark.parametrize("node", ["prefork"], indirect=True)
def test_children_die_with_their_parent(node: WorkerNode, platform: Platform, notes: Path) -> None:
    job = platform.start("odd.sleeps_on", {"path": str(notes), "seconds": 50})
    children = [psutil.Process(pid) for pid in node.children]
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    eventually(lambda: not any(_lives(child) for child in children))
    assert platform.row(job).state is JobState.RUNNING, "until its lease has run out"
    node.restart()


def _says(notes: Path, word: str) -> bool:
    """Whether a handler has written that down."""
    return notes.exists() and word in notes.read_text()


def _ports(pid: int) -> set[int]:
    """Our side of the connections that the process has open, inherited ones included."""
    connections = psutil.Process(pid).net_connections()
    return {each.laddr.port for each in connections if each.raddr}


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
