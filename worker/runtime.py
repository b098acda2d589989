"""What one process needs to make attempts: connections, threads, its place on the board.

It is made after the fork, on first use, and belongs to the process that made it.
"""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from jobs.files import FileStore
from jobs.hints import Hints
from jobs.lifecycle import Claim, Moved, Next, Success, settle, succeed_and_start
from jobs.registry import Registry
from jobs.settings import Settings
from worker.board import Board
from worker.engines import make_engine
from worker.groups import Groups, alone
from worker.handfuls import Sizes
from worker.hearing import Hearing
from worker.lines import Lines
from worker.link import Link
from worker.loop import Loop
from worker.patience import until_answered
from worker.recorder import Recorder
from worker.sessions import Sessions
from worker.usage import Meter, ThreadMeter

T = TypeVar("T")
MovedT = TypeVar("MovedT", Moved, Claim)

CHILD_CONNECTIONS = 4  # one attempt, the recorder, and what an async handler does beside them
TRANSACTIONS = 1  # of these, for what takes several statements
CHILD_BLOCKS = 1  # an attempt seldom has two transactions open at a time
THREADS_BLOCKS = 10  # each holds its connection for as long as its handler likes
THREADS_CONNECTIONS = 10  # for what is not committed in groups; one more is for these
GROUPS_WAIT = timedelta(milliseconds=50)  # for a lock: what one of them costs the others


class Runtime:
    """One process's. Threads share it."""

    def __init__(
        self, settings: Settings, registry: Registry, worker_id: UUID, board: Board, *, forked: bool
    ) -> None:
        self.settings, self.registry = settings, registry
        self.worker_id, self.board = worker_id, board
        self.forked = forked  #: a pool process, whose parent ends it where need be
        self.pid = os.getpid()
        size = CHILD_CONNECTIONS if forked else THREADS_CONNECTIONS
        self.engine: Engine = make_engine(settings, name="worker", size=size)
        self.sessions = Sessions(settings, CHILD_BLOCKS if forked else THREADS_BLOCKS)
        self.hints = Hints(settings.broker_url.get_secret_value())
        self.hearing = Hearing(settings.broker_url.get_secret_value(), board)
        self.files = FileStore(settings.files_dir)
        self._lines = Lines(self.engine, size - TRANSACTIONS)
        self._groups = None if forked else self._make_groups()  #: a process makes one at a time
        self.recorder = Recorder(self._lines, self.hints, board)
        self.meter = Meter() if forked else ThreadMeter()
        self.sizes = Sizes()
        self.links: dict[tuple[UUID, int], Link] = {}  #: of the attempts that run here
        self._lock = threading.Lock()

    def _make_groups(self) -> Groups:
        engine = make_engine(self.settings, name="worker", size=1, lock_timeout=GROUPS_WAIT)
        return Groups(Lines(engine, 1), self.hints, lambda: len(self.links))

    @cached_property
    def _loop(self) -> Loop:
        return Loop()

    @property
    def loop(self) -> Loop:
        """The process's event loop."""
        with self._lock:
            return self._loop

    def ask(self, question: Callable[[Connection], T], within: float | None = None) -> T:
        """The answer of one statement, a transaction of its own.

        Asked again while PostgreSQL is away, for `within` seconds (a lease, if None is given); then
        DatabaseUnavailable.
        """

        def action() -> T:
            with self._lines.line() as connection:
                return question(connection)

        return self.patiently(action, within)

    def patiently(self, action: Callable[[], T], within: float | None = None) -> T:
        """The answer to `action`, asked again in the same way."""
        patience = self.settings.lease_seconds if within is None else within
        return until_answered(action, patience)

    def commit(self, action: Callable[[Connection], T]) -> T:
        """The answer of several statements, which are one transaction; asked again likewise."""

        def transaction() -> T:
            with self.engine.begin() as connection:
                return action(connection)

        return self.patiently(transaction)

    def move(self, move: Callable[[Connection], MovedT], within: float | None = None) -> MovedT:
        """The same for a move of a job, which is told to whoever listens."""
        moved = self.ask(move, within)
        self.hints.tell([moved])
        return moved

    def start(self, following: Next, within: float, on_send: Callable[[], object]) -> Claim:
        """The claim, committed and told; on threads in a group with what others bring meanwhile.

        Asked again as `ask`. `on_send` is called before each time that it may be committed without
        an answer. LeaseLost.
        """
        claimed = self._settle(following, within, on_send)
        assert isinstance(claimed, Claim)
        return claimed

    def succeed(self, success: Success, within: float, *, goes_alone: bool = False) -> Moved:
        """The success, in the same way, unless it `goes_alone`."""
        moved = self._settle(success, within, goes_alone=goes_alone)
        assert isinstance(moved, Moved)
        return moved

    def _settle(
        self,
        asked: Success | Next,
        within: float,
        on_send: Callable[[], object] = lambda: None,
        *,
        goes_alone: bool = False,
    ) -> Moved | Claim:
        groups = self._groups

        def action() -> Moved | Claim:
            nonlocal goes_alone
            is_sent = False
            if groups is not None and not goes_alone:
                answer = groups.settle(asked, on_send)
                if answer is not None:
                    return answer
                goes_alone = is_sent = True  # and it is known that nothing came of it
            with self._lines.line() as connection:
                if not is_sent:
                    on_send()
                answer = alone(connection, asked)
            self.hints.tell([answer])
            return answer

        return self.patiently(action, within)

    def exchange(
        self,
        successes: Sequence[Success],
        starts: Sequence[Next],
        on_send: Callable[[], object],
    ) -> list[Moved | Claim | None]:
        """Successes and claims in one transaction, in their order, told to whoever listens.

        None: it did not come about, or is to be tried by itself. `on_send` is called before it may
        be committed. Not asked again: what it raises (jobs/lifecycle/pairs.py) leaves open whether
        all of it is done. Each has a job of its own.
        """
        answers: list[Moved | Claim | None]
        with self._lines.line() as connection:
            on_send()
            if len(successes) == len(starts) == 1:  # which costs less
                answers = [*succeed_and_start(connection, successes[0], starts[0])]
            else:
                answers = settle(connection, [*successes, *starts])
        told = [each for each in answers if each is not None]
        self.hints.tell(told, more_follow=bool(starts))  # and if not, the recorder rouses them
        return answers
