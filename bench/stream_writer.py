"""What happens to the jobs that the readers follow: moves of jobs/lifecycle, at a given pace.

Open loop: when an event is due does not depend on when the one before it was done. Each is a
transaction of its own, and is told over Redis after the commit, as workers do it.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import sqlalchemy as sa

from jobs import lifecycle
from jobs.database import autocommit, make_engine
from jobs.enqueue import Intake, enqueue
from jobs.hints import Hints
from jobs.lifecycle import Moved
from jobs.registry import load_registry
from jobs.settings import Settings
from jobs.submissions import Submission, check

THREADS = 2  # connections; one alone falls behind at 1,000 events/s where a commit takes a ms
LEASE = timedelta(hours=1)
PROJECT = "default"
MOST = 1000  # jobs of one statement


class Written(NamedTuple):
    """One event, when it was committed, and how much later than it was due."""

    job_id: str
    seq: int
    at: float  #: seconds, monotonic
    late: float  #: seconds


def make_jobs(settings: Settings, count: int) -> list[str]:
    """Queued jobs of `demo.sleep`, each with its `created` event."""
    engine = make_engine(settings, name="bench", size=1)
    registry = load_registry(("kinds.demo",))
    asked, made = Submission(kind="demo.sleep", args={"seconds": 1}), list[str]()
    while len(made) < count:
        new = [check(registry, asked) for _ in range(min(MOST, count - len(made)))]
        with engine.begin() as connection:
            enqueue(connection, [Intake(PROJECT, new)], process_id=uuid4())
        made += [str(each.id) for each in new]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()
    return made


def write_all(
    pipe: Connection, settings: Settings, jobs: Sequence[str], events: int, rate: float
) -> None:
    """Each job starts, makes progress and succeeds: `events` events, `rate` of all jobs a second.

    Says "ready"; hears when to begin; says what was written when.
    """
    engine = autocommit(make_engine(settings, name="bench", size=THREADS, pings=False))
    hints, worker = Hints(settings.broker_url.get_secret_value()), uuid4()

    def write(share: int, begin: float) -> list[Written]:
        found = []
        with engine.connect() as connection:
            for number, job_id, turn in _turns(jobs, events, share):
                due = begin + number / rate
                while (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                moved = _move(connection, UUID(job_id), turn, events, worker)
                at = time.monotonic()
                hints.tell([moved])
                found.append(Written(job_id, moved.seq, at, at - due))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        pipe.send("ready")
        begin: float = pipe.recv()
        shares = [pool.submit(write, share, begin) for share in range(THREADS)]
        pipe.send([each for share in shares for each in share.result()])
    hints.close()
    engine.dispose()


def _turns(jobs: Sequence[str], events: int, share: int) -> Iterator[tuple[int, str, int]]:
    """All jobs in turn, again and again; a job stays with its thread."""
    for turn in range(events):
        for index in range(share, len(jobs), THREADS):
            yield turn * len(jobs) + index, jobs[index], turn


def _move(connection: Any, job_id: UUID, turn: int, events: int, worker: UUID) -> Moved:
    if turn == 0:
        claim = lifecycle.start(connection, job_id, attempt=1, worker=worker, lease=LEASE)
        return Moved._make(claim[: len(Moved._fields)])
    if turn == events - 1:
        return lifecycle.succeed(connection, job_id, attempt=1, result=None)
    fraction = turn / events
    return lifecycle.record_progress(
        connection, job_id, attempt=1, fraction=fraction, message=f"{turn} of {events}"
    )
