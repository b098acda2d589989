"""What one process needs to make attempts: connections, threads, its place on the board.

It is made after the fork, on first use, and belongs to the process that made it.
"""

import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from jobs.files import FileStore
from jobs.hints import Hints
from jobs.lifecycle import Claim, Moved, Next, Success, succeed_and_start
from jobs.registry import Registry
from jobs.settings import Settings
from worker.board import Board
from worker.engines import make_engine
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
THREADS_CONNECTIONS = 10  # a statement takes a millisecond: enough for some thousand a second


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
        self.files = FileStore(settings.files_dir)
        self._lines = Lines(self.engine, size - TRANSACTIONS)
        self.recorder = Recorder(self._lines, self.hints, board)
        self.meter = Meter() if forked else ThreadMeter()
        self.links: dict[tuple[UUID, int], Link] = {}  #: of the attempts that run here
        self._lock = threading.Lock()

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

    def pass_on(self, success: Success, following: Next) -> tuple[Moved | None, Claim | None]:
        """A success and the next claim, in one transaction, which are told to whoever listens.

        Not asked again: what it raises (jobs/lifecycle/pairs.py) leaves open whether both are done.
        """
        with self._lines.line() as connection:
            moved, claimed = succeed_and_start(connection, success, following)
        told = [each for each in (moved, claimed) if each is not None]
        self.hints.tell(told, more_follow=True)  # and if not, the recorder rouses them
        return moved, claimed
