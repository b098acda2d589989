"""Sessions that race for the same few jobs: whoever wins, the tables tell one lawful history.

Hypothesis draws what each session does; what the calls return and what the tables hold afterwards
must fit together. More of them: `LADING_PROPERTIES=5000 pytest tests/jobs/test_lifecycle_races.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from jobs import lifecycle, removal, workers
from jobs.attempts import Cause, Error
from jobs.database import autocommit
from jobs.errors import JobsError
from jobs.histories import find_damage
from jobs.lifecycle import Claim, Moved
from tests.jobs.living import PROCESS, submit
from tests.jobs.making import PROJECT
from tests.jobs.properties import examples

SESSIONS, JOBS = 4, 2
WORKERS = [UUID(int=number) for number in range(SESSIONS)]
ERROR = Error(Cause.EXCEPTION, "ValueError", "no")
HOUR = LEASE = timedelta(hours=1)
SHORT = timedelta(milliseconds=1)  # a lease that the test's server has been up for

Call = tuple[str, int, int]  #: its name, which of the jobs, which attempt
Told = Moved | Claim

_LEASE_OUT = sa.text(
    "UPDATE job SET lease_until = now() - interval '1 h' WHERE state = 'running' AND id = :id"
)
ATTEMPTS: dict[str, Callable[..., Any]] = {
    "start": partial(lifecycle.start, lease=LEASE),
    "progress": partial(lifecycle.record_progress, fraction=0.5, message=None),
    "log": partial(lifecycle.record_log, lines=[{"message": "x"}]),
    "succeed": partial(lifecycle.succeed, result=1),
    "retry_later": partial(lifecycle.retry_later, error=ERROR, delay=timedelta()),
    "fail": partial(lifecycle.fail, error=ERROR),
    "crash": partial(lifecycle.crash, detail="signal 9"),
    "interrupt": partial(lifecycle.interrupt, reason="deploy"),
    "cancel_running": partial(lifecycle.cancel_running, reason="enough"),
}
ASKED: dict[str, Callable[[Connection, UUID], Any]] = {
    "cancel": lambda c, job: lifecycle.cancel(c, PROJECT, job, "asked"),
    "retry": lambda c, job: lifecycle.retry(c, PROJECT, job),
    "run_now": lambda c, job: lifecycle.run_now(c, PROJECT, job),
    "delete": lambda c, job: removal.delete_job(c, PROJECT, job, process_id=PROCESS),
    "lease_out": lambda c, job: c.execute(_LEASE_OUT, {"id": job}),
}
SWEEPS: dict[str, Callable[[Connection], list[Moved]]] = {
    "release": lambda c: lifecycle.release_due(c, 9),
    "expire": lambda c: lifecycle.expire_due(c, 9),
    "rescue": lambda c: lifecycle.rescue(c, 9, SHORT),
}
NAMES = ["start", "start", "start", *ATTEMPTS, "step", "renew", "mark_lost", *ASKED, *SWEEPS]
NAMES = [name for name in NAMES if name != "delete"] * 2 + ["delete"]

programs = st.lists(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, JOBS - 1), st.sampled_from([1, 1, 2, 3])),
        min_size=1,
        max_size=6,
    ),
    min_size=2,
    max_size=SESSIONS,
)
#: How the jobs stand before the race: what one session did with each.
BEFORE: list[list[str]] = [
    [],
    ["start"],
    ["start"],
    ["start", "cancel"],
    ["start", "lease_out"],
    ["start", "lease_out", "cancel"],
    ["start", "retry_later"],
    ["start", "fail"],
]


class Race:
    """One run of the sessions; what they were told."""

    def __init__(self, connections: Sequence[Connection], jobs: list[UUID]) -> None:
        self.connections, self.jobs = connections, jobs
        self.told: list[Told] = []
        self.deleted: list[UUID] = []

    def run(self, pool: ThreadPoolExecutor, drawn: list[list[Call]]) -> None:
        together = Barrier(len(drawn), timeout=30)  # seconds

        def session(number: int) -> None:
            together.wait()
            for place, call in enumerate(drawn[number]):
                self.call(number, call, f"step {number} {place}")

        for ended in [pool.submit(session, number) for number in range(len(drawn))]:
            ended.result()

    def call(self, session: int, call: Call, step: str) -> None:
        """What it tells is kept; a refusal is none of ours, for it depends on who was faster."""
        (name, place, attempt), connection = call, self.connections[session]
        job, worker = self.jobs[place], WORKERS[session]
        try:
            if name in SWEEPS:
                self.told += SWEEPS[name](connection)
            elif name == "renew":
                workers.renew(connection, worker, [(job, attempt)], LEASE)
            elif name == "mark_lost":
                workers.mark_lost(connection, worker, job, attempt)
            elif name in ASKED:
                self._keep(job, name, ASKED[name](connection, job))
            else:
                self._keep(job, name, _action(name, worker, step)(connection, job, attempt=attempt))
        except JobsError:
            return

    def _keep(self, job: UUID, name: str, answer: Any) -> None:
        if name == "delete":
            self.deleted.append(job)
        elif isinstance(answer, Moved | Claim):
            self.told.append(answer)


def _action(name: str, worker: UUID, step: str) -> Callable[..., Any]:
    if name == "step":
        return partial(lifecycle.record_step, name=step, result=1)
    return partial(ATTEMPTS[name], worker=worker) if name == "start" else ATTEMPTS[name]


@pytest.fixture(scope="module")
def connections(engine: Engine) -> Iterator[list[Connection]]:
    opened = [autocommit(engine).connect() for _ in range(SESSIONS)]
    yield opened
    for connection in opened:
        connection.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(SESSIONS) as pool:
        yield pool


@examples(60)
@given(
    before=st.lists(st.sampled_from(BEFORE), min_size=JOBS, max_size=JOBS),
    drawn=programs,
)
def test_whoever_wins_the_history_is_lawful(
    engine: Engine,
    connections: list[Connection],
    pool: ThreadPoolExecutor,
    before: list[list[str]],
    drawn: list[list[Call]],
) -> None:
    with engine.begin() as connection:
        jobs = submit(connection, JOBS, max_attempts=3)
    race = Race(connections, jobs)
    for place, calls in enumerate(before):
        for name in calls:
            race.call(0, (name, place, 1), "none")
    race.run(pool, drawn)
    with engine.connect() as connection:
        assert find_damage(connection, min(jobs), max(jobs)) == []
        _tell_the_same(connection, race)


def _tell_the_same(connection: Connection, race: Race) -> None:
    """Each event was told to one session, and each that was told is there; a job goes once."""
    assert max(Counter(race.deleted).values(), default=1) == 1
    rows = connection.execute(_EVENTS, {"ids": race.jobs})
    stand = [(row.job_id, row.seq, row.type, row.attempt) for row in rows]
    ours = [each for each in race.told if each.id in race.jobs]  # sweeps find older ones as well
    told = Counter((each.id, each.seq, each.type, each.attempt) for each in ours)
    assert max(told.values(), default=1) == 1
    assert {key for key in told if key[0] not in race.deleted} == set(stand)


_EVENTS = sa.text(
    "SELECT job_id, seq, type, attempt FROM job_event"
    " WHERE job_id = ANY(CAST(:ids AS uuid[])) AND seq > 1"
)
