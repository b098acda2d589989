"""Any sequence of calls with jobs that wait for others, children and batches, by Hypothesis.

The calls of test_lifecycle_properties.py, and beside them what makes and ends kin.
"""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import invariant, run_state_machine_as_test
from sqlalchemy import Engine

from jobs.enqueue import Accepted, Intake, NewBatch, enqueue
from jobs.errors import BatchClosed, InvalidSubmission
from jobs.hints import Hints
from jobs.ids import uuid7
from jobs.queries import count_children
from jobs.settings import Settings
from jobs.states import JobState
from jobs.submissions import NewJob, Submission, check_all
from jobs.waiting.batches import cancel_batch, get_batch
from tests.jobs.making import PROJECT
from tests.jobs.properties import examples
from tests.jobs.test_lifecycle_properties import PROCESS, REGISTRY, Lives
from tests.jobs.waiting_model import Group, Kin, look, tell
from worker.dispatcher.waiting import Waiting

MOST = 8  # jobs at a time
HOUR = timedelta(hours=1)
#: The calls that matter to others, and how often each: what ends a job, and what wakes it again.
CALLS = {
    "work": 6,
    "look": 6,
    "submit_some": 4,
    "succeed": 2,
    "fail": 2,
    "retry": 2,
    "let_its_time_come": 2,
    "cancel_the_batch": 1,
    "cancel": 1,
    "cancel_itself": 1,
    "claim": 1,
    "crash": 1,
    "delete": 1,
    "expire_what_is_late": 1,
    "let_it_expire": 1,
    "raise_an_error": 1,
}


class Kinships(Lives):
    """Jobs that hang together, in the database and as models."""

    most = MOST
    calls = tuple(name for name, count in CALLS.items() for _ in range(count))

    def __init__(self, engine: Engine, hints: Hints) -> None:
        super().__init__(engine)
        self.service = Waiting(hints, lambda: None)
        self.groups: list[Group] = []

    def submit(self) -> None:
        """To begin with, a batch."""
        self._submit([Submission(kind="test.echo", args={})] * 2, self._new_batch())

    def submit_some(self) -> None:
        """One or two, without a batch, with a new one, or into one that may be open."""
        if sum(not life.is_deleted for life in self.lives) + 4 > MOST:
            return
        specs = [self._any_submission(number) for number in range(self.draw(st.integers(1, 2)))]
        batch = self.draw(st.sampled_from(["none", "old", "new", "new"]))
        if batch == "old":
            group = self.draw(st.sampled_from(self.groups))
            self._submit(specs, NewBatch(group.id, is_new=False, is_open=self.draw(st.booleans())))
        else:
            self._submit(specs, self._new_batch() if batch == "new" else None)

    def work(self) -> None:
        """What is queued runs; most of it succeeds."""
        for life in self.lives:
            self.life = life
            if not life.is_deleted and life.state is JobState.QUEUED:
                end = self.draw(st.sampled_from(["succeed", "succeed", "succeed", "fail"]))
                getattr(self, end)()

    def look(self) -> None:
        with self.engine.connect() as connection:
            while self.service.turn(connection).most == 0:
                pass
        look(self._kin(), self.groups)

    def cancel_the_batch(self) -> None:
        group = self.draw(st.sampled_from(self.groups))
        self._both(lambda c: cancel_batch(c, PROJECT, group.id, "asked"), group.cancel)

    def delete(self) -> None:
        """Who waits for it is told how it had ended."""
        super().delete()
        if self.life.is_deleted:
            tell(self._kin(), self._kin()[self.lives.index(self.life)])

    @invariant()
    def batches_show_their_jobs(self) -> None:
        for group in self.groups:
            seen = get_batch(self.connection, PROJECT, group.id)
            shown = (seen.state, seen.is_open, seen.jobs, seen.counts, seen.cancel_reason)
            assert shown == (
                group.state,
                group.is_open,
                len(group.jobs),
                group.counts,
                group.reason,
            )

    @invariant()
    def jobs_show_their_children(self) -> None:
        kin = [job for job in self._kin() if not job.is_deleted]
        for parent in {job.id for job in kin} & {job.parent for job in kin}:
            counts = Counter(str(job.state) for job in kin if job.parent == parent)
            assert count_children(self.connection, PROJECT, parent) == counts

    def _kin(self) -> list[Kin]:
        return [life for life in self.lives if isinstance(life, Kin)]

    def _any_submission(self, number: int) -> Submission:
        known = [str(life.id) for life in self.lives] + [f"#{other}" for other in range(number)]
        count = self.draw(st.sampled_from([0, 1, 2, 2]))
        after = self.draw(
            st.lists(st.sampled_from(known), min_size=count, max_size=count, unique=True)
        )
        living = [life.id for life in self.lives if not life.is_deleted]
        when = self.draw(st.sampled_from(["now", "later", "soon"]))
        return Submission(
            kind="test.echo",
            args={},
            after=[each if each[0] == "#" else UUID(each) for each in after],
            parent_id=self.draw(st.sampled_from([None, *living])),
            max_attempts=self.draw(st.integers(1, 2)),
            delay=HOUR if when == "later" else None,
            expires_in=2 * HOUR if when == "soon" else None,
        )

    def _new_batch(self) -> NewBatch:
        callbacks = self.draw(st.sampled_from(["both", "on_complete", "on_success"]))
        return NewBatch(
            uuid7(),
            failure_policy=self.draw(st.sampled_from(["continue", "fail_fast"])),
            is_open=self.draw(st.sampled_from([False, False, True])),
            on_complete=None if callbacks == "on_success" else _callback(),
            on_success=None if callbacks == "on_complete" else _callback(),
        )

    def _submit(self, asked: list[Submission], batch: NewBatch | None) -> None:
        new = check_all(REGISTRY, asked)
        with self.engine.begin() as connection:
            intake = Intake(PROJECT, new, batch=batch)
            (answer,) = enqueue(connection, [intake], process_id=PROCESS)
        group = next((g for g in self.groups if batch and g.id == batch.id), None)
        gone = {life.id for life in self.lives if life.is_deleted}
        if any(gone & {*job.after} for job in new):
            assert isinstance(answer, InvalidSubmission)
        elif group is not None and not group.is_open:
            assert isinstance(answer, BatchClosed)
        else:
            assert isinstance(answer, Accepted)
            jobs = [self._enter(job, spec) for job, spec in zip(new, asked, strict=True)]
            if group is not None and batch is not None:
                group.jobs += jobs
                group.is_open = batch.is_open
            elif batch is not None:
                self._form(batch, jobs)

    def _enter(self, new: NewJob, asked: Submission) -> Kin:
        succeeded = {life.id for life in self.lives if life.state is JobState.SUCCEEDED}
        expires = None if asked.expires_in is None else False
        kin = Kin(new.id, JobState.QUEUED, new.max_attempts, expires)
        kin.waits_for = {*new.after} - succeeded
        kin.has_time, kin.parent = asked.delay is not None, asked.parent_id
        if kin.waits_for:
            kin.state = JobState.WAITING
        elif kin.has_time:
            kin.state = JobState.SCHEDULED
        self.lives.append(kin)
        return kin

    def _form(self, batch: NewBatch, jobs: list[Kin]) -> None:
        callbacks = {
            new.id: Kin(new.id, JobState.WAITING, new.max_attempts, waits_for={batch.id})
            for new in batch.callbacks
        }
        self.lives += callbacks.values()
        self.groups.append(
            Group(
                batch.id,
                fails_fast=batch.failure_policy == "fail_fast",
                is_open=batch.is_open,
                jobs=jobs,
                on_complete=callbacks[batch.on_complete.id] if batch.on_complete else None,
                on_success=callbacks[batch.on_success.id] if batch.on_success else None,
            )
        )


def _callback() -> NewJob:
    (job,) = check_all(REGISTRY, [Submission(kind="test.echo", args={}, max_attempts=1)])
    return job


def test_any_sequence_of_calls_keeps_the_law_of_those_that_wait(
    engine: Engine, settings: Settings
) -> None:
    hints = Hints(settings.broker_url.get_secret_value())

    class OfThisDatabase(Kinships):
        def __init__(self) -> None:
            super().__init__(engine, hints)

    try:
        run_state_machine_as_test(OfThisDatabase, settings=examples(12, steps=30))
    finally:
        hints.close()
