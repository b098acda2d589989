"""The writer: one thread per process that commits submissions, many at a time.

Group commit without a timer: what arrives while one commit is in flight shares the next one, so an
idle process answers at once and a busy one spends a fraction of a commit on a job. An answer is
given after the commit, never before.

Only plain single submissions share a group; a batch goes alone, and so does whoever has a unique
key or waits for others, and a key whose twin, in another process, has not committed yet: it is
tried again between the groups until its second is over, so that it stalls its neighbours by
LOCK_WAIT only.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlmodel import col

from api.problems import Problem
from jobs.database import autocommit, is_blocked, is_unavailable, make_engine
from jobs.enqueue import Accepted, Intake, created, enqueue
from jobs.errors import DatabaseUnavailable, JobsError, KeyInFlight, UniqueConflict
from jobs.hints import Hints
from jobs.ids import uuid7
from jobs.models import Job
from jobs.settings import Settings
from jobs.states import JobState
from jobs.views import JobView, job_columns

MOST_IN_GROUP = 500  # intakes: some 10 ms of inserting, which is what a newcomer waits for
MOST_WAITING = 20_000  # intakes; at a slow disk's thousand a second, longer than a client waits
LOCK_WAIT_MS = 50  # for a key that is taken: what one of them costs its neighbours, a turn
BLOCKED_FOR = 1.0  # seconds until such a key is answered with 409

_log = structlog.get_logger(__name__)


class _Waiting:
    """A submission, and who waits for it."""

    __slots__ = ("alone", "deadline", "future", "intake", "loop")

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Accepted] = self.loop.create_future()
        self.deadline = time.monotonic() + BLOCKED_FOR
        self.alone = len(intake.jobs) != 1 or not intake.is_plain

    @property
    def key(self) -> tuple[str, str] | None:
        key = self.intake.key
        return None if key is None else (self.intake.project_id, key)

    def blocked(self) -> JobsError:
        """What it is told when it has waited for a lock long enough."""
        if self.intake.key:
            return KeyInFlight(self.intake.key)
        unique = next((job.unique for job in self.intake.jobs if job.unique), None)
        return UniqueConflict(unique.key, None) if unique else DatabaseUnavailable()


_Answer = Accepted | Exception
_Answers = list[tuple[_Waiting, _Answer]]


class IntakeWriter:
    """The thread and its queue. Made when a process starts, after any fork."""

    def __init__(
        self, settings: Settings, hints: Hints, *, most_waiting: int = MOST_WAITING
    ) -> None:
        self.process_id = uuid7()
        self._hints, self._most_waiting = hints, most_waiting
        self._engine = make_engine(settings, name="intake", size=1, pings=False)
        event.listen(self._engine, "do_connect", _add_options)
        self._autocommit = autocommit(self._engine)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anybody would commit what is submitted."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many intakes have no answer yet, but for those that are being committed."""
        return len(self._waiting)

    async def submit(self, intake: Intake) -> Accepted:
        """The intake's jobs are committed.

        KeyReused, KeyInFlight, JobDeleted; DatabaseUnavailable: it may or may not have been done;
        Problem `overloaded`.
        """
        waiting = _Waiting(intake)
        with self._changed:
            if self._closing or len(self._waiting) >= self._most_waiting:
                detail = "More submissions wait than can be committed soon."
                raise Problem("overloaded", detail, headers={"Retry-After": "1"})
            self._waiting.append(waiting)
            self._changed.notify()
        return await waiting.future

    def close(self) -> None:
        """Everything that was submitted has its answer."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        group: list[_Waiting] = []
        try:
            while group := self._next_group():
                answers = self._settle(group)
                _give(answers)
                self._tell(answers)
        finally:  # nobody waits for a thread that has ended, whatever ended it
            with self._changed:
                self._closing = True
                _give([(left, DatabaseUnavailable()) for left in (*group, *self._waiting)])

    def _next_group(self) -> list[_Waiting]:
        """What is committed next; empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            group: list[_Waiting] = []
            keys: set[tuple[str, str]] = set()
            while self._waiting and len(group) < MOST_IN_GROUP:
                head = self._waiting[0]
                if group and (head.alone or head.key in keys):
                    break
                group.append(self._waiting.popleft())
                if head.alone:
                    break
                if head.key is not None:
                    keys.add(head.key)
            return group

    def _settle(self, group: Sequence[_Waiting]) -> _Answers:
        """What is told to each; those that are to be tried again are back in the queue."""
        try:
            answers = self._commit([waiting.intake for waiting in group])
        except SQLAlchemyError as error:
            return self._after_failure(group, error)
        return list(zip(group, answers, strict=True))

    def _after_failure(self, group: Sequence[_Waiting], error: Exception) -> _Answers:
        """No neighbour suffers for what one of them brought."""
        if is_unavailable(error):
            unavailable = DatabaseUnavailable()
            unavailable.__cause__ = error
            return [(waiting, unavailable) for waiting in group]
        if is_blocked(error):
            return self._try_again(group)
        if len(group) > 1:
            return [answer for waiting in group for answer in self._settle([waiting])]
        return [(group[0], error)]

    def _try_again(self, group: Sequence[_Waiting]) -> _Answers:
        """Those without a key go on at once, together; the others one by one, after whoever came.

        The answers of those that have waited long enough.
        """
        now = time.monotonic()
        with self._changed:
            for waiting in reversed(group):
                if now < waiting.deadline and waiting.key is None:
                    self._waiting.appendleft(waiting)
                elif now < waiting.deadline:
                    waiting.alone = True
                    self._waiting.append(waiting)
        return [(waiting, waiting.blocked()) for waiting in group if now >= waiting.deadline]

    def _commit(self, intakes: Sequence[Intake]) -> list[Accepted | JobsError]:
        """They are committed; where the connection broke meanwhile, by a second try."""
        try:
            return self._commit_once(intakes)
        except OperationalError as error:
            if not error.connection_invalidated:
                raise
            _log.warning("a commit is tried again: the connection broke", cause=str(error.orig))
        return self._commit_once(intakes)

    def _commit_once(self, intakes: Sequence[Intake]) -> list[Accepted | JobsError]:
        """One transaction; plain ones without keys are one statement, so one round trip."""
        is_one = all(intake.key is None and intake.is_plain for intake in intakes)
        engine = self._autocommit if is_one else self._engine
        try:
            with engine.begin() as connection:
                return enqueue(connection, intakes, process_id=self.process_id)
        except IntegrityError as error:
            if len(intakes) > 1 or _constraint(error) != "job_pkey":
                raise
        # The ids are ours: an earlier commit, whose answer was lost, has gone through.
        with self._autocommit.connect() as connection:
            return [_find(connection, intakes[0])]

    def _tell(self, answers: _Answers) -> None:
        """Whoever listens hears of the new jobs."""
        for waiting, answer in answers:
            if isinstance(answer, Accepted) and answer.made:
                project_id = waiting.intake.project_id
                self._hints.tell(answer.moved)
                self._hints.tell(created(project_id, job) for job in answer.made)
                queues = {job.queue for job in answer.made if job.state is JobState.QUEUED}
                self._hints.wake(sorted(queues))


def _add_options(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
    """An accepted job survives a power cut, whatever the server's default for others is."""
    parameters["options"] += f" -c synchronous_commit=on -c lock_timeout={LOCK_WAIT_MS}"


def _constraint(error: IntegrityError) -> str | None:
    diagnostic = getattr(error.orig, "diag", None)
    return getattr(diagnostic, "constraint_name", None)


def _find(connection: Connection, intake: Intake) -> Accepted:
    ids = [job.id for job in intake.jobs]
    statement = sa.select(*job_columns()).where(col(Job.id).in_(ids))
    found = {row[0]: JobView._make(row) for row in connection.execute(statement)}
    return Accepted([found[job_id] for job_id in ids])


def _give(answers: Iterable[tuple[_Waiting, _Answer]]) -> None:
    """Each future has its answer soon; one message to each loop."""
    for_loop: dict[asyncio.AbstractEventLoop, _Answers] = {}
    for waiting, answer in answers:
        for_loop.setdefault(waiting.loop, []).append((waiting, answer))
    for loop, given in for_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set, given)


def _set(answers: _Answers) -> None:
    for waiting, answer in answers:
        if waiting.future.done():
            continue  # whoever waited has gone
        if isinstance(answer, Accepted):
            waiting.future.set_result(answer)
        else:
            waiting.future.set_exception(answer)
