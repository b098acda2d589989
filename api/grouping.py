"""Group commit: one thread per process and purpose commits what requests bring, many at a time.

There is no timer: what arrives while one commit is in flight shares the next one, so an idle
process answers at once and a busy one spends a fraction of a commit on a request. An answer is
given after the commit, never before.

No neighbour suffers for what one of a group brings. A group that fails is done again one by one;
who waits for a lock is tried again between the groups until its second is over, so that it stalls
its neighbours by LOCK_WAIT only.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import structlog
from anyio import to_thread
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from api.problems import Problem
from jobs.database import autocommit, is_blocked, is_unavailable, make_engine
from jobs.errors import DatabaseUnavailable, JobsError
from jobs.settings import Settings

MOST_IN_GROUP = 500  # items: some 10 ms of inserting, which is what a newcomer waits for
MOST_WAITING = 20_000  # items; at a slow disk's thousand a second, longer than a client waits
LOCK_WAIT_MS = 50  # for a key that is taken: what one of them costs its neighbours, a turn
BLOCKED_FOR = 1.0  # seconds until such an item is told that it was

_log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Waiting(Generic[Item, Answer]):
    """What a request brings, and who waits for it."""

    __slots__ = ("alone", "deadline", "future", "item", "key", "loop")

    def __init__(self, item: Item, key: Hashable, *, alone: bool) -> None:
        self.item, self.key, self.alone = item, key, alone
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Answer] = self.loop.create_future()
        self.deadline = time.monotonic() + BLOCKED_FOR


class GroupWriter(ABC, Generic[Item, Answer]):
    """The thread and its queue. Made when a process starts, after any fork."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        *,
        most_waiting: int = MOST_WAITING,
        most_in_group: int = MOST_IN_GROUP,
    ) -> None:
        self._most_waiting, self._most_in_group = most_waiting, most_in_group
        self._engine = committing_engine(settings, name)
        self._autocommit = autocommit(self._engine)
        self._waiting: deque[Waiting[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._is_open = True  # to newcomers
        self._closing = self._has_ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anybody would commit what is submitted."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many items have no answer yet, but for those that are being committed."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Answer:
        """The item is committed.

        Whatever error the commit answers it with; DatabaseUnavailable: it may or may not have been
        done; Problem `overloaded`.
        """
        waiting: Waiting[Item, Answer] = Waiting(item, self.key(item), alone=self.is_alone(item))
        if not self._is_open or self.waiting >= self._most_waiting:
            detail = "More submissions wait than can be committed soon."
            raise Problem("overloaded", detail, headers={"Retry-After": "1"})
        self._enter(waiting)
        return await waiting.future

    def hand_over(self, waiting: Sequence[Waiting[Item, Answer]]) -> None:
        """The thread commits them when it is their turn. From the event loop."""
        with self._changed:
            has_ended = self._has_ended
            if not has_ended:
                self._waiting.extend(waiting)
                self._changed.notify()
        if has_ended:
            answer_all([(each, DatabaseUnavailable()) for each in waiting])

    async def close(self) -> None:
        """Everything that was submitted has its answer."""
        self._is_open = False
        await to_thread.run_sync(self._close)

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._engine.dispose()

    @abstractmethod
    def key(self, item: Item) -> Hashable:
        """What only one of a group may bring, and may have to wait for; None: it has no such."""

    @abstractmethod
    def is_alone(self, item: Item) -> bool:
        """Whether it shares its commit with no other."""

    @abstractmethod
    def commit(self, items: Sequence[Item]) -> Sequence[Answer | JobsError]:
        """They are committed in one transaction, and the answer of each."""

    @abstractmethod
    def give_up(self, item: Item) -> Answer | Exception:
        """The answer of one that has waited for a lock long enough."""

    @abstractmethod
    def tell(self, done: Sequence[tuple[Item, Answer]]) -> None:
        """Whoever listens hears of what was committed."""

    def _enter(self, waiting: Waiting[Item, Answer]) -> None:
        self.hand_over([waiting])

    def _run(self) -> None:
        group: list[Waiting[Item, Answer]] = []
        try:
            while group := self._next_group():
                answers = self._settle(group)
                _give(answers)
                self.tell(
                    [
                        (waiting.item, answer)
                        for waiting, answer in answers
                        if not isinstance(answer, Exception)
                    ]
                )
        finally:  # nobody waits for a thread that has ended, whatever ended it
            with self._changed:
                self._is_open, self._has_ended = False, True
                _give([(left, DatabaseUnavailable()) for left in (*group, *self._waiting)])

    def _next_group(self) -> list[Waiting[Item, Answer]]:
        """What is committed next; empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            group: list[Waiting[Item, Answer]] = []
            keys: set[Hashable] = set()
            while self._waiting and len(group) < self._most_in_group:
                head = self._waiting[0]
                if group and (head.alone or head.key in keys):
                    break
                group.append(self._waiting.popleft())
                if head.alone:
                    break
                if head.key is not None:
                    keys.add(head.key)
            return group

    def _settle(
        self, group: Sequence[Waiting[Item, Answer]]
    ) -> "list[tuple[Waiting[Item, Answer], Answer | Exception]]":
        """What is told to each; those that are to be tried again are back in the queue."""
        try:
            answers = self._commit([waiting.item for waiting in group])
        except SQLAlchemyError as error:
            return self._after_failure(group, error)
        return list(zip(group, answers, strict=True))

    def _after_failure(
        self, group: Sequence[Waiting[Item, Answer]], error: Exception
    ) -> "list[tuple[Waiting[Item, Answer], Answer | Exception]]":
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

    def _try_again(
        self, group: Sequence[Waiting[Item, Answer]]
    ) -> "list[tuple[Waiting[Item, Answer], Answer | Exception]]":
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
        return [
            (waiting, self.give_up(waiting.item)) for waiting in group if now >= waiting.deadline
        ]

    def _commit(self, items: Sequence[Item]) -> Sequence[Answer | JobsError]:
        """They are committed; where the connection broke meanwhile, by a second try."""
        try:
            return self.commit(items)
        except OperationalError as error:
            if not error.connection_invalidated:
                raise
            _log.warning("a commit is tried again: the connection broke", cause=str(error.orig))
        return self.commit(items)


def committing_engine(settings: Settings, name: str) -> Engine:
    """Of one connection, for who tries again when it breaks."""
    engine = make_engine(settings, name=name, size=1, pings=False)
    event.listen(engine, "do_connect", _add_options)
    return engine


def _add_options(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
    """What is accepted survives a power cut, whatever the server's default for others is."""
    parameters["options"] += f" -c synchronous_commit=on -c lock_timeout={LOCK_WAIT_MS}"


def _give(answers: Iterable[tuple[Waiting[Any, Any], Any]]) -> None:
    """Each future has its answer soon; one message to each loop."""
    for_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting[Any, Any], Any]]] = {}
    for waiting, answer in answers:
        for_loop.setdefault(waiting.loop, []).append((waiting, answer))
    for loop, given in for_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(answer_all, given)


def answer_all(answers: Iterable[tuple[Waiting[Any, Any], Any]]) -> None:
    """Each future has its answer now. In the event loop."""
    for waiting, answer in answers:
        if waiting.future.done():
            continue  # whoever waited has gone
        if isinstance(answer, Exception):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)
