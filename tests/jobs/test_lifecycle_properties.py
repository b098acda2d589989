"""Any sequence of calls, by Hypothesis: after each, PostgreSQL says what the model says.

More of them: `LADING_PROPERTIES=5000 pytest tests/jobs/test_lifecycle_properties.py`.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from jobs import lifecycle, removal, workers
from jobs.attempts import Cause, Error
from jobs.audit import audit
from jobs.database import autocommit
from jobs.enqueue import Intake, enqueue
from jobs.errors import JobsError
from jobs.registry import load_registry
from jobs.states import FINAL, JobState
from jobs.submissions import Submission, check
from tests.jobs.lifecycle_model import Life
from tests.jobs.making import PROJECT
from tests.jobs.properties import examples

REGISTRY = load_registry(("tests.kinds_for_tests",))
PROCESS, QUEUE = uuid4(), "default"
WORKERS = [UUID(int=1), UUID(int=2)]
ERROR = Error(Cause.EXCEPTION, "ValueError", "no")
HOUR = LEASE = timedelta(hours=1)
SHORT = timedelta(milliseconds=1)  # a lease that the test's server has been up for
MOST = 3  # jobs at a time

FRACTION = st.sampled_from([0.25, 0.75])
# Most calls come from the attempt that holds the job or is the next; some from a zombie, or nobody.
OFF = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, -1, 1])
#: What is called, and how often compared with the others: what ends a life is rarer.
CALLS = {
    "claim": 4,
    "crash": 3,
    "let_its_lease_run_out": 4,
    "raise_an_error": 3,
    "mark_lost": 2,
    "release_what_is_due": 2,
    "rescue": 2,
    "retry": 4,
    "ring": 2,
    "cancel": 1,
    "cancel_itself": 1,
    "delete": 1,
    "expire_what_is_late": 1,
    "fail": 1,
    "interrupt": 1,
    "let_it_expire": 1,
    "let_its_time_come": 3,
    "log": 1,
    "claim_while_paused": 1,
    "renew": 1,
    "run_now": 1,
    "show_progress": 1,
    "step": 1,
    "submit": 2,
    "succeed": 1,
}


class Lives(RuleBasedStateMachine):
    """A few jobs, in the database and as models: each call goes to both.

    One rule for all of them: Hypothesis leaves out most of many, and then little happens.
    """

    most = MOST
    calls: Sequence[str] = tuple(name for name, count in CALLS.items() for _ in range(count))

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.connection = autocommit(engine).connect()
        self.lives: list[Life] = []
        self.is_paused = False
        self.names = iter(f"step {number}" for number in range(10_000))

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.submit()

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        self.draw = data.draw
        call = self.draw(st.sampled_from(self.calls))
        self.life = self._life(self.draw(st.sampled_from([0, 0, *range(self.most + 1)])))
        getattr(self, call)()

    def submit(self) -> None:
        if sum(not life.is_deleted for life in self.lives) == MOST:
            return
        is_later, expires = self.draw(
            st.sampled_from([(False, None), (False, None), (False, False), (True, False)])
        )
        max_attempts = self.draw(st.integers(1, 3))
        asked = Submission(
            kind="test.echo",
            args={},
            max_attempts=max_attempts,
            delay=HOUR if is_later else None,
            expires_in=None if expires is None else 2 * HOUR,
        )
        new = check(REGISTRY, asked)
        with self.engine.begin() as connection:
            enqueue(connection, [Intake(PROJECT, [new])], process_id=PROCESS)
        state = JobState.SCHEDULED if is_later else JobState.QUEUED
        self.lives.append(Life(new.id, state, max_attempts, expires))

    def claim(self) -> None:
        self._claim(self.life.attempt + 1 + self.draw(OFF))

    def _claim(self, attempt: int) -> None:
        life, worker = self.life, self.draw(st.sampled_from(WORKERS))
        self._both(
            lambda c: lifecycle.start(c, life.id, attempt=attempt, worker=worker, lease=LEASE),
            lambda: life.start(attempt, worker, is_paused=self.is_paused),
        )

    def show_progress(self) -> None:
        life, attempt, fraction = self.life, self._attempt(), self.draw(FRACTION)
        self._both(
            lambda c: lifecycle.record_progress(
                c, life.id, attempt=attempt, fraction=fraction, message=None
            ),
            lambda: life.record_progress(attempt, fraction),
        )

    def log(self) -> None:
        life, attempt = self.life, self._attempt()
        self._both(
            lambda c: lifecycle.record_log(c, life.id, attempt=attempt, lines=[{"message": "x"}]),
            lambda: life.record_log(attempt),
        )

    def step(self) -> None:
        life, attempt, name = self.life, self._attempt(), next(self.names)
        self._both(
            lambda c: lifecycle.record_step(c, life.id, attempt=attempt, name=name, result=1),
            lambda: life.record_step(attempt, name),
        )

    def succeed(self) -> None:
        life, attempt, result = self.life, self._attempt(), self.draw(st.integers(0, 9))
        self._both(
            lambda c: lifecycle.succeed(c, life.id, attempt=attempt, result=result),
            lambda: life.succeed(attempt, result),
        )

    def raise_an_error(self) -> None:
        """As the executor reports it: another attempt, unless that was the last of the budget."""
        life, attempt, is_due = self.life, self._attempt(), self.draw(st.booleans())
        if life.failures + 1 >= life.max_attempts:
            self.fail()
            return
        delay = timedelta() if is_due else HOUR
        self._both(
            lambda c: lifecycle.retry_later(c, life.id, attempt=attempt, error=ERROR, delay=delay),
            lambda: life.retry_later(attempt, is_due=is_due),
        )

    def fail(self) -> None:
        life, attempt = self.life, self._attempt()
        self._both(
            lambda c: lifecycle.fail(c, life.id, attempt=attempt, error=ERROR),
            lambda: life.fail(attempt),
        )

    def crash(self) -> None:
        life, attempt = self.life, self._attempt()
        self._both(
            lambda c: lifecycle.crash(c, life.id, attempt=attempt, detail="signal 9"),
            lambda: life.crash(attempt),
        )

    def interrupt(self) -> None:
        life, attempt = self.life, self._attempt()
        self._both(
            lambda c: lifecycle.interrupt(c, life.id, attempt=attempt, reason="deploy"),
            lambda: life.interrupt(attempt),
        )

    def cancel_itself(self) -> None:
        life, attempt = self.life, self._attempt()
        self._both(
            lambda c: lifecycle.cancel_running(c, life.id, attempt=attempt, reason="enough"),
            lambda: life.cancel_running(attempt),
        )

    def cancel(self) -> None:
        life = self.life
        self._both(lambda c: lifecycle.cancel(c, PROJECT, life.id, "asked"), life.cancel)

    def retry(self) -> None:
        life = self.life
        self._both(lambda c: lifecycle.retry(c, PROJECT, life.id), life.retry)

    def run_now(self) -> None:
        life = self.life
        self._both(lambda c: lifecycle.run_now(c, PROJECT, life.id), life.run_now)

    def delete(self) -> None:
        life = self.life
        self._both(
            lambda c: removal.delete_job(c, PROJECT, life.id, process_id=PROCESS), life.delete
        )

    def release_what_is_due(self) -> None:
        self._sweep(lambda c: lifecycle.release_due(c, self.most), Life.release)

    def expire_what_is_late(self) -> None:
        self._sweep(lambda c: lifecycle.expire_due(c, self.most), Life.expire)

    def rescue(self) -> None:
        self._sweep(lambda c: lifecycle.rescue(c, self.most, SHORT), Life.rescue)

    def renew(self) -> None:
        life, attempt = self.life, self._attempt()
        worker = self.draw(st.sampled_from(WORKERS))
        self._both(
            lambda c: workers.renew(c, worker, [(life.id, attempt)], LEASE)[0].is_running,
            lambda: life.renew(attempt, worker),
        )

    def mark_lost(self) -> None:
        life, attempt = self.life, self.life.attempt + self.draw(st.integers(-2, 0))
        worker = self.draw(st.sampled_from(WORKERS))
        self._both(
            lambda c: workers.mark_lost(c, worker, life.id, attempt),
            lambda: life.mark_lost(attempt, worker),
        )

    def ring(self) -> None:
        self.life.ring()
        self._write("SET rung_at = clock_timestamp() WHERE state = 'queued' AND id = :id")

    def let_its_time_come(self) -> None:
        self.life.is_due = True
        self._write("SET run_at = now() - interval '1 h' WHERE run_at > now() AND id = :id")
        if self.draw(st.booleans()):
            self.release_what_is_due()

    def let_it_expire(self) -> None:
        self.life.expires = None if self.life.expires is None else True
        past = "SET expires_at = now() - interval '1 h' WHERE expires_at IS NOT NULL AND id = :id"
        self._write(past)

    def let_its_lease_run_out(self) -> None:
        self._attempt()
        self.life.is_lease_out = True
        past = "SET lease_until = now() - interval '1 h' WHERE state = 'running' AND id = :id"
        self._write(past)
        if self.draw(st.booleans()):
            self.rescue()

    def claim_while_paused(self) -> None:
        for self.is_paused in (True, False):
            binds = {"project": PROJECT, "name": QUEUE, "paused": self.is_paused}
            self.connection.execute(_PAUSE, binds)
            self._claim(self.life.attempt + 1)

    @invariant()
    def both_are_the_same(self) -> None:
        seen = {row.id: row for row in self.connection.execute(_EVERYTHING)}
        assert set(seen) == {life.id for life in self.lives if not life.is_deleted}
        for life in self.lives:
            if not life.is_deleted:
                _compare(life, seen[life.id])

    def teardown(self) -> None:
        with self.engine.connect() as connection:
            assert audit(connection).findings == []
        self.connection.execute(
            sa.text("TRUNCATE job, batch, job_dependency, gate, intake_total CASCADE")
        )
        self.connection.close()

    def _life(self, job: int) -> Life:
        """One of those that are there; a deleted one rather seldom."""
        there = [life for life in self.lives if not life.is_deleted]
        gone = [life for life in self.lives if life.is_deleted]
        return gone[-1] if gone and (job == self.most or not there) else there[job % len(there)]

    def _attempt(self) -> int:
        """The newest attempt, which is made first where it can be; or one beside it."""
        off = self.draw(OFF)
        if off == 0 and self.life.state is JobState.QUEUED:
            self._claim(self.life.attempt + 1)
        return self.life.attempt + off

    def _both(self, call: Callable[[sa.Connection], Any], law: Callable[[], Any]) -> None:
        assert _said(lambda: call(self.connection)) == _said(law)

    def _sweep(
        self, call: Callable[[sa.Connection], list[lifecycle.Moved]], law: Callable[[Life], Any]
    ) -> None:
        moved = {(each.id, each.type) for each in call(self.connection)}
        assert moved == {(life.id, said) for life in self.lives if (said := law(life))}

    def _write(self, what: str) -> None:
        """What time would do, or the dispatcher."""
        self.connection.execute(sa.text(f"UPDATE job {what}"), {"id": self.life.id})


def test_any_sequence_of_calls_keeps_the_law(engine: Engine) -> None:
    class OfThisDatabase(Lives):
        def __init__(self) -> None:
            super().__init__(engine)

    run_state_machine_as_test(OfThisDatabase, settings=examples(60, steps=30))


def _said(call: Callable[[], Any]) -> Any:
    """What the call returned, as the type of an event where there is one; or what it raised."""
    try:
        answer = call()
    except JobsError as error:
        return type(error)
    return getattr(answer, "type", answer)


def _compare(life: Life, row: sa.Row[Any]) -> None:
    assert row.history == [f"{type_} {attempt}" for type_, attempt in life.events]
    assert row.seqs == [*range(1, len(life.events) + 1)]
    assert (row.state, row.seq, row.attempt) == (life.state, len(life.events), life.attempt)
    assert (row.failures, row.crashes) == (life.failures, life.crashes)
    assert row.cancel_requested == life.is_cancel_requested
    assert (row.is_leased, row.is_finished) == (
        life.state is JobState.RUNNING,
        life.state in FINAL,
    )
    assert row.is_rung == life.is_rung
    assert (row.worker, row.cause, row.result) == (life.holder, life.cause, life.result)
    assert row.fraction == life.progress
    assert (row.outcomes or {}) == {str(number): word for number, word in life.outcomes.items()}
    assert set(row.steps or ()) == life.steps


_PAUSE = sa.text(
    "INSERT INTO gate (project_id, scope, name, paused) VALUES (:project, 'queue', :name, :paused)"
    " ON CONFLICT (project_id, scope, name) DO UPDATE SET paused = excluded.paused"
)
_CLEAR = sa.text("TRUNCATE job, batch, job_dependency, gate, intake_total CASCADE")
_EVERYTHING = sa.text("""
SELECT id, CAST(state AS text) AS state, seq, attempt, failures, crashes, cancel_requested, worker,
       lease_until IS NOT NULL AS is_leased, finished_at IS NOT NULL AS is_finished,
       rung_at IS NOT NULL AS is_rung, error ->> 'cause' AS cause,
       CAST(result AS integer) AS result,
       CAST(progress ->> 'fraction' AS double precision) AS fraction,
       log.seqs, log.history,
       (SELECT jsonb_object_agg(attempt, outcome) FROM job_attempt WHERE job_id = id) AS outcomes,
       (SELECT array_agg(name) FROM job_step WHERE job_id = id) AS steps
FROM job, LATERAL (
    SELECT array_agg(seq ORDER BY seq) AS seqs,
           array_agg(type || ' ' || attempt ORDER BY seq) AS history
    FROM job_event WHERE job_id = job.id
) AS log
""")
