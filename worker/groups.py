"""Group commit for a worker's threads: claims and successes that arrive together are one statement.

There is no thread for it. Who arrives while nobody commits does so at once, alone. Who arrives
meanwhile waits; then one of those takes along all that have come. So a lone move is as quick as
ever. While many come, of a CROWD of attempts, a group begins no sooner than GATHER behind the one
before: at a thousand a second some share a round trip and a commit, however quick those are. A few
attempts that are all in the group would only wait for themselves.

No neighbour suffers for another: who cannot go with the group, since a job's row is locked or the
server refuses something, is told to go alone. And nobody is answered before the commit.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jobs import lifecycle
from jobs.database import is_unavailable
from jobs.documents import NotStorable
from jobs.errors import DatabaseUnavailable, JobsError, LeaseLost
from jobs.hints import Hints
from jobs.lifecycle import Claim, Moved, Next, Success
from jobs.pace import Pace
from worker.lines import Lines

BUSY = 200.0  # moves a second; beyond, groups are gathered
CROWD = 32  # attempts that run here; of fewer, groups are never gathered
GATHER = 0.008  # seconds from one group's end to the next; a crowd of 32 may make 4,000 in a second
MOST = 100  # moves a statement: some 15 ms of PostgreSQL, which is what a newcomer waits for


class Member:
    """A move, and the thread that waits for its answer."""

    __slots__ = ("answer", "asked", "called", "error", "is_settled", "on_send")

    def __init__(self, asked: Success | Next, on_send: Callable[[], object]) -> None:
        self.asked, self.on_send = asked, on_send
        self.answer: Moved | Claim | None = None
        self.error: JobsError | None = None
        self.is_settled = False
        self.called = threading.Lock()  # free, once the thread is to go on
        self.called.acquire()

    def settle(self, answer: Moved | Claim | None, error: JobsError | None = None) -> None:
        """Its thread knows soon; None and no error: it is to go alone."""
        self.answer, self.error, self.is_settled = answer, error, True


class Groups:
    """Of one process's threads, which share it.

    `lines` should not wait for locks for long; `crowd` says how many attempts run.
    """

    def __init__(self, lines: Lines, hints: Hints, crowd: Callable[[], int]) -> None:
        self._lines, self._hints, self._crowd = lines, hints, crowd
        self._lock = threading.Lock()
        self._waiting: deque[Member] = deque()
        self._is_led = False  #: somebody commits, or has been called to
        self._pace, self._ended_at = Pace(BUSY, time.monotonic()), -math.inf  #: of who leads

    def settle(self, asked: Success | Next, on_send: Callable[[], object]) -> Moved | Claim | None:
        """The move's answer, once it is committed and told. None: nothing was done, do it alone.

        LeaseLost; DatabaseUnavailable: it may or may not have been done, if `on_send` was called.
        """
        member = Member(asked, on_send)
        with self._lock:
            if leads := not self._is_led:
                self._is_led = True
            else:
                self._waiting.append(member)
        if not leads:
            member.called.acquire()
        if not member.is_settled:
            self._lead(member)
        if member.error is not None:
            raise member.error
        return member.answer

    def _lead(self, leader: Member) -> None:
        """The group of `leader` has its answers, and somebody else leads the next one, if any."""
        group = [leader]
        try:
            self._await_others()
            with self._lock:
                self._gather(group)
            self._commit(group)
        finally:
            self._ended_at = time.monotonic()
            for member in group:
                if not member.is_settled:
                    member.settle(None, DatabaseUnavailable())
                if member is not leader:
                    member.called.release()
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                self._is_led = following is not None
            if following is not None:
                following.called.release()
        self._hints.tell([member.answer for member in group if member.answer is not None])

    def _await_others(self) -> None:
        now = time.monotonic()
        if self._pace.is_busy_at(now) and self._crowd() >= CROWD:
            time.sleep(max(0.0, self._ended_at + GATHER - now))

    def _gather(self, group: list[Member]) -> None:
        """Those that wait join it; each job but once, so that each answer is somebody's."""
        jobs: set[UUID] = {group[0].asked.job_id}
        while self._waiting and len(group) < MOST:
            if (job_id := self._waiting[0].asked.job_id) in jobs:
                break
            jobs.add(job_id)
            group.append(self._waiting.popleft())
        self._pace.count(len(group))

    def _commit(self, group: Sequence[Member]) -> None:
        try:
            with self._lines.line() as connection:
                for member in group:
                    member.on_send()
                answers = _send(connection, [member.asked for member in group])
        except LeaseLost as error:
            group[0].settle(None, error)
        except NotStorable:  # somebody's; who is alone hears of it
            for member in group:
                member.settle(None)
        except SQLAlchemyError as error:
            for member in group:
                member.settle(None, _unavailable(error) if is_unavailable(error) else None)
        else:
            for member, answer in zip(group, answers, strict=True):
                member.settle(answer)


def _send(
    connection: Connection, asked: Sequence[Success | Next]
) -> Sequence[Moved | Claim | None]:
    if len(asked) == 1:  # which costs less
        return [alone(connection, asked[0])]
    return lifecycle.settle(connection, asked)


def alone(connection: Connection, asked: Success | Next) -> Moved | Claim:
    """The move by itself. LeaseLost."""
    job_id, attempt = asked.job_id, asked.attempt
    if isinstance(asked, Success):
        result, usage = asked.result, asked.usage
        return lifecycle.succeed(connection, job_id, attempt=attempt, result=result, usage=usage)
    worker, lease = asked.worker, asked.lease
    return lifecycle.start(connection, job_id, attempt=attempt, worker=worker, lease=lease)


def _unavailable(error: Exception) -> DatabaseUnavailable:
    """One for each thread: what is raised belongs to who raises it."""
    made = DatabaseUnavailable()
    made.__cause__ = error
    return made
