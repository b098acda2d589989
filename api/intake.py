"""The writer of submissions: many of them a commit (api/grouping.py).

Only plain single submissions share a group; a batch goes alone, and so does whoever has a unique
key or waits for others, and a key whose twin, in another process, has not committed yet.

The quick lane (api/lane.py) commits beside the thread. Neither may wait for rows of the other's: so
each counts in rows of its own, both in intake_total and in the audit trail.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from api.grouping import MOST_WAITING, GroupWriter, Waiting, committing_engine
from api.lane import Lane, is_quick
from jobs.asking import Asking
from jobs.database import autocommit
from jobs.enqueue import Accepted, Intake, created, enqueue
from jobs.enqueue.plain import STATEMENTS
from jobs.errors import DatabaseUnavailable, JobsError, KeyInFlight, UniqueConflict
from jobs.hints import Hints, Told
from jobs.ids import uuid7
from jobs.models import Job
from jobs.settings import Settings
from jobs.states import JobState
from jobs.views import JobView, job_columns


class IntakeWriter(GroupWriter[Intake, Accepted]):
    """Who submits is answered KeyReused, KeyInFlight, JobDeleted, and what `enqueue` refuses."""

    def __init__(
        self, settings: Settings, hints: Hints, *, most_waiting: int = MOST_WAITING
    ) -> None:
        self.process_id, self._hints = uuid7(), hints
        super().__init__(settings, "intake", most_waiting=most_waiting)
        self._lane_engine = autocommit(committing_engine(settings, "intake"))
        self._is_suspect = False  # the thread's connection
        self.lane = Lane(uuid7(), self._open_lane, self._pass_on, self.tell, self._suspect)

    def key(self, item: Intake) -> Hashable:
        return None if item.key is None else (item.project_id, item.key)

    def is_alone(self, item: Intake) -> bool:
        return len(item.jobs) != 1 or not item.is_plain

    def commit(self, items: Sequence[Intake]) -> Sequence[Accepted | JobsError]:
        """One transaction; plain ones without keys are one statement, so one round trip."""
        if self._is_suspect:
            self._is_suspect = False
            self._engine.dispose()
        try:
            if all(intake.key is None and intake.is_plain for intake in items):
                with self._autocommit.connect() as connection:
                    return enqueue(connection, items, process_id=self.process_id)
            with self._engine.begin() as connection:
                return enqueue(connection, items, process_id=self.process_id)
        except IntegrityError as error:
            if len(items) > 1 or _constraint(error) != "job_pkey":
                raise
        # The ids are ours: an earlier commit, whose answer was lost, has gone through.
        with self._autocommit.connect() as connection:
            return [_find(connection, items[0])]

    def give_up(self, item: Intake) -> JobsError:
        if item.key:
            return KeyInFlight(item.key)
        unique = next((job.unique for job in item.jobs if job.unique), None)
        return UniqueConflict(unique.key, None) if unique else DatabaseUnavailable()

    def tell(self, done: Sequence[tuple[Intake, Accepted]]) -> None:
        moved: list[Told] = []
        queues: set[str] = set()
        for item, answer in done:
            made = answer.made
            if made:
                moved += answer.moved
                moved += [created(item.project_id, job) for job in made]
                queues.update([job.queue for job in made if job.state is JobState.QUEUED])
        if moved:
            self._hints.tell(moved, queues=sorted(queues))

    @property
    def waiting(self) -> int:
        return super().waiting + self.lane.waiting

    async def close(self) -> None:
        self._is_open = False
        await self.lane.end()
        self._lane_engine.dispose()
        await super().close()

    def _enter(self, waiting: Waiting[Intake, Accepted]) -> None:
        item = waiting.item
        if waiting.alone or not is_quick(item.jobs[0], item.key):
            super()._enter(waiting)
        elif not self.lane.take(waiting):
            self._pass_on([waiting])

    def _pass_on(self, waiting: Sequence[Waiting[Intake, Accepted]]) -> None:
        """What was for the lane is the thread's."""
        for each in waiting:
            if each.item.tally is not None:
                each.item = replace(each.item, tally=each.item.tally.aside())
        self.hand_over(waiting)

    def _suspect(self) -> None:
        """The lane's connection was lost; the thread's, if it is idle, may be as dead, unheard.

        Where a network is silent, to find that out takes TCP_USER_TIMEOUT once more.
        """
        self._is_suspect = True

    def _open_lane(self) -> Asking:
        connection = self._lane_engine.connect()
        try:
            return Asking(connection, STATEMENTS)
        except BaseException:
            connection.invalidate()  # some may be prepared there
            connection.close()
            raise


def _constraint(error: IntegrityError) -> str | None:
    diagnostic = getattr(error.orig, "diag", None)
    return getattr(diagnostic, "constraint_name", None)


def _find(connection: Connection, intake: Intake) -> Accepted:
    ids = [job.id for job in intake.jobs]
    statement = sa.select(*job_columns()).where(col(Job.id).in_(ids))
    found = {row[0]: JobView._make(row) for row in connection.execute(statement)}
    return Accepted([found[job_id] for job_id in ids])
