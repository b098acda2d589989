"""What flow control costs: `python -m bench.flow --jobs 2000 --backlog 1000000`.

Jobs that stand in the table already are picked, claimed and reported, through the statements that
the dispatcher and the workers use, once without and once with keys, limits and rates. It needs
nothing that runs: it starts a PostgreSQL of its own. CPU is that of this process and PostgreSQL's.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import psutil
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, text

from dev.postgres import temporary_postgres
from jobs import dispatch, gates, lifecycle
from jobs.dispatch import Turns
from jobs.gates import Gate, Rate, Scope
from jobs.workers import WorkerProcess, beat

PROJECT, QUEUE, KIND = "default", "default", "bench.noop"
LEASE = timedelta(seconds=600)
WINDOW = 100  # bells: what a queue of fifty quick slots has
KEYS = 100


class Measured(NamedTuple):
    """One way of a run."""

    name: str
    jobs: int
    seconds: float
    cpu_seconds: float
    pick_seconds: float  #: of `seconds`


def main() -> None:
    """Prints the figures, each way twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--backlog", type=int, default=100_000)
    options = parser.parse_args()
    with prepared() as (engine, server):
        work(engine, 200)  # caches fill
        ways = []
        for name, is_keyed in (("without", False), ("with all of it", True)) * 2:
            load(engine, options.backlog, is_keyed=is_keyed)
            ways.append(measure(engine, server, name, options.jobs))
    print(f"{options.jobs:,} jobs of a backlog of {options.backlog:,}")
    for way in ways:
        print(
            f"{way.name:15} {way.jobs / way.seconds:7.0f} jobs/s"
            f" {1000 * way.cpu_seconds / way.jobs:7.3f} CPU-ms a job,"
            f" picks {1000 * way.pick_seconds / way.jobs:6.3f} ms a job"
        )


@contextmanager
def prepared() -> Iterator[tuple[Engine, psutil.Process]]:
    """A migrated database with a worker, and its server's process."""
    with temporary_postgres() as server:
        os.environ |= {"LADING_DATABASE_URL": server.url, "LADING_BROKER_URL": "redis://none:1/0"}
        command.upgrade(Config("alembic.ini"), "head")
        url = server.url.replace("postgresql://", "postgresql+psycopg://", 1)
        options = "-c timezone=UTC -c enable_seqscan=off -c enable_bitmapscan=off -c jit=off"
        engine = create_engine(url, connect_args={"options": options})
        with engine.begin() as connection:
            process = WorkerProcess(uuid4(), "here", 1, "prefork", [QUEUE], [KIND], WINDOW // 2)
            beat(connection, process)
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postmaster = psutil.Process(pid).parent()
        assert postmaster is not None
        yield engine, postmaster
        engine.dispose()


def load(engine: Engine, number: int, *, is_keyed: bool) -> None:
    """The table holds so many queued jobs and no others."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE job, gate CASCADE"))
        connection.execute(_LOAD, {"number": number, "keys": KEYS if is_keyed else None})
        if is_keyed:
            rate = Rate(1_000_000, timedelta(seconds=1), 10_000)
            for gate in (Gate(Scope.KIND, KIND), Gate(Scope.QUEUE, QUEUE)):
                gates.set_limit(connection, PROJECT, gate, concurrency=5000, rate=rate)
            for key in range(KEYS):
                gate = Gate(Scope.KEY, f"key {key}")
                gates.set_limit(connection, PROJECT, gate, concurrency=50, rate=rate)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE job"))


def measure(engine: Engine, server: psutil.Process, name: str, jobs: int) -> Measured:
    """So many jobs are picked, claimed and reported."""
    before, start = cpu(server), time.perf_counter()
    made, picking = work(engine, jobs)
    seconds = time.perf_counter() - start
    return Measured(name, made, seconds, cpu(server) - before, picking)


def work(engine: Engine, jobs: int) -> tuple[int, float]:
    """At least so many are done, if there are as many; how many, and the seconds of picking."""
    made, picking, turns = 0, 0.0, Turns()
    single = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as picker, single as worker:
        while made < jobs:
            start = time.perf_counter()
            with picker.begin():
                found = dispatch.survey(picker, LEASE)
                bells = [b for each in found for b in dispatch.pick(picker, each, WINDOW, turns)]
            picking += time.perf_counter() - start
            if not bells:
                break
            for bell in bells:
                make(worker, *bell.attempts[0])
            made += len(bells)
    return made, picking


def make(connection: Connection, job_id: UUID, attempt: int) -> None:
    claim = lifecycle.start(connection, job_id, attempt=attempt, worker=uuid4(), lease=LEASE)
    lifecycle.succeed(connection, claim.id, attempt=attempt, result=None)


def cpu(server: psutil.Process) -> float:
    """Seconds so far, of this process and of PostgreSQL's."""
    mine, spent = psutil.Process().cpu_times(), 0.0
    for process in (server, *server.children()):
        times = process.cpu_times()
        spent += times.user + times.system
    return spent + mine.user + mine.system


_LOAD = text("""
INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at, queued_at,
                 concurrency_key)
SELECT gen_random_uuid(), 'bench.noop', 'queued', 'default', 5, '{}', 1, 1, clock_timestamp(),
       clock_timestamp(), 'key ' || number % CAST(:keys AS integer)
FROM generate_series(1, :number) AS number
""")


if __name__ == "__main__":
    main()
