"""Leases and workers in the database: who is alive, who holds what, and who has lost it."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from jobs import lifecycle, workers
from jobs.enqueue import Intake, enqueue
from jobs.logs import drop_lines
from jobs.registry import Registry
from jobs.steps import read_steps
from jobs.submissions import Submission, check
from jobs.workers import WorkerProcess

LEASE = timedelta(seconds=30)


@pytest.fixture
def worker() -> WorkerProcess:
    return WorkerProcess(uuid4(), "host", 7, "prefork", ["default"], ["test.echo"], 2)


def start(connection: Connection, registry: Registry, worker: WorkerProcess) -> UUID:
    """A job whose first attempt the worker holds."""
    job = check(registry, Submission(kind="test.echo", args={}))
    enqueue(connection, [Intake("default", [job])], process_id=uuid4())
    lifecycle.start(connection, job.id, attempt=1, worker=worker.id, lease=LEASE)
    return job.id


def lease_left(connection: Connection, job_id: UUID) -> float:
    statement = sa.text(
        "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM job WHERE id = :id"
    )
    return float(connection.execute(statement, {"id": job_id}).scalar_one())


def test_a_worker_is_alive_for_one_lease_after_its_beat(
    connection: Connection, worker: WorkerProcess
) -> None:
    workers.beat(connection, worker)
    workers.beat(connection, worker)
    (seen,) = workers.list_workers(connection, LEASE)
    assert (seen.id, seen.pid, seen.running) == (worker.id, 7, 0)
    connection.execute(sa.text("UPDATE worker SET seen_at = seen_at - interval '31 s'"))
    assert workers.list_workers(connection, LEASE) == []
    workers.beat(connection, worker)
    assert len(workers.list_workers(connection, LEASE)) == 1
    workers.sign_off(connection, worker.id)
    assert workers.list_workers(connection, LEASE) == []


def test_a_worker_shows_how_much_it_runs(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    workers.beat(connection, worker)
    for _ in range(2):
        start(connection, registry, worker)
    assert [seen.running for seen in workers.list_workers(connection, LEASE)] == [2]


def test_a_lease_is_renewed_for_its_holder_alone(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    job_id = start(connection, registry, worker)
    longer = 10 * LEASE
    workers.renew(connection, uuid4(), [(job_id, 1)], longer)
    workers.renew(connection, worker.id, [(job_id, 2)], longer)
    assert lease_left(connection, job_id) < 31
    (held,) = workers.renew(connection, worker.id, [(job_id, 1)], longer)
    assert lease_left(connection, job_id) > 200
    assert held == (job_id, 1, True, None, False)


def test_an_attempt_hears_what_became_of_its_job(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    asked, taken, ended, deleted = (start(connection, registry, worker) for _ in range(4))
    lifecycle.cancel(connection, "default", asked, "no")
    lifecycle.crash(connection, taken, attempt=1, detail="gone")
    lifecycle.start(connection, taken, attempt=2, worker=uuid4(), lease=LEASE)
    lifecycle.succeed(connection, ended, attempt=1, result=None)
    connection.execute(sa.text("DELETE FROM job WHERE id = :id"), {"id": deleted})
    named = [(job_id, 1) for job_id in (asked, taken, ended, deleted)]
    for heard in (
        workers.renew(connection, worker.id, named, LEASE),
        workers.look(connection, named),
    ):
        held = {each.job_id: each for each in heard}
        assert held[asked][2:] == (True, None, True)
        assert held[taken][2:] == (False, "crashed", False)
        assert held[ended][2:] == (False, "succeeded", False)
        assert held[deleted][2:] == (False, None, False)
        assert [each.job_id for each in heard if each.is_lost] == [taken]


def test_a_locked_row_does_not_hold_up_the_beat(
    engine: Engine, registry: Registry, worker: WorkerProcess
) -> None:
    with engine.begin() as connection:
        locked, other = (start(connection, registry, worker) for _ in range(2))
    lock = sa.text("SELECT 1 FROM job WHERE id = :id FOR UPDATE")
    with engine.begin() as holder, engine.begin() as connection:
        holder.execute(lock, {"id": locked})
        held = workers.renew(connection, worker.id, [(locked, 1), (other, 1)], 10 * LEASE)
        assert {each.is_running for each in held} == {True}
        assert lease_left(connection, locked) < 31
        assert lease_left(connection, other) > 200


def test_remains_are_those_of_the_workers_own_running_attempt(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    job_id = start(connection, registry, worker)
    assert workers.find_remains(connection, worker.id, job_id, 1) == ("test.echo", 0, 5)
    assert workers.find_remains(connection, uuid4(), job_id, 1) is None
    assert workers.find_remains(connection, worker.id, job_id, 2) is None
    lifecycle.interrupt(connection, job_id, attempt=1, reason="deploy")
    assert workers.find_remains(connection, worker.id, job_id, 1) is None


def test_stored_steps_are_read_by_name(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    job_id = start(connection, registry, worker)
    for name, result in (("one", {"a": 1}), ("none", None)):
        lifecycle.record_step(connection, job_id, attempt=1, name=name, result=result)
    assert read_steps(connection, job_id) == {"one": {"a": 1}, "none": None}
    assert read_steps(connection, uuid4()) == {}


def test_dropped_lines_leave_their_event_with_its_number(
    connection: Connection, registry: Registry, worker: WorkerProcess
) -> None:
    job_id = start(connection, registry, worker)
    seqs = [
        lifecycle.record_log(connection, job_id, attempt=1, lines=[{"message": str(line)}]).seq
        for line in range(3)
    ]
    drop_lines(connection, job_id, [(seqs[0], 1), (seqs[1], 1), (1, 5)])
    statement = sa.text("SELECT seq, data FROM job_event WHERE job_id = :id ORDER BY seq")
    rows = {row.seq: row.data for row in connection.execute(statement, {"id": job_id})}
    assert rows[seqs[0]] == rows[seqs[1]] == {"dropped": 1}
    assert rows[seqs[2]] == {"lines": [{"message": "2"}]}
    assert rows[1] == {"state": "queued"}, "only logs are touched"
