"""The quick lane: plain submissions, which the event loop inserts itself, many in a statement.

A thread in between costs more than the statement: each handing over wakes somebody, and both want
the interpreter's lock. While a statement is in flight, what arrives gathers for the next one. What
does not go well here, for whatever reason, the writer's thread does again (api/grouping.py), which
finds what has been done; and it has everything while there is no connection. Large ones are the
thread's anyway: what is done for a group here is done in one go, and nobody else has a turn.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from api.grouping import MOST_IN_GROUP, Waiting, answer_all
from jobs.asking import Asking, Unanswered
from jobs.enqueue import Accepted, Intake
from jobs.enqueue.plain import plain_insertion, read_plain
from jobs.submissions import NewJob

PAUSE = 1.0  # seconds from one attempt to connect to the next
LARGE = 4096  # characters of args; from these on a job costs more than the thread does
MOST_CHARACTERS = 100_000  # of args in a statement; objects and lists take 10 ms to read

Entry = Waiting[Intake, Accepted]

_log = structlog.get_logger(__name__)


def is_quick(job: NewJob, key: str | None) -> bool:
    """Whether a job that is submitted by itself is one for the lane."""
    return key is None and len(job.args) < LARGE and job.is_plain


class Lane:
    """For the event loop's thread alone. `process_id` is nobody else's."""

    def __init__(
        self,
        process_id: UUID,
        connect: Callable[[], Asking],
        hand_over: Callable[[Sequence[Entry]], None],
        tell: Callable[[Sequence[tuple[Intake, Accepted]]], None],
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called where the connection is, before what was taken is handed over."""
        self.process_id, self._connect = process_id, connect
        self._hand_over, self._tell, self._lost = hand_over, tell, lost
        self._loop = asyncio.get_running_loop()
        self._asking: Asking | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried_at = -math.inf
        self._waiting: list[Entry] = []
        self._flying: list[Entry] = []
        self._ended: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes submissions."""
        return self._asking is not None

    @property
    def waiting(self) -> int:
        """How many submissions wait for the statement that is in flight."""
        return len(self._waiting)

    def take(self, entry: Entry) -> bool:
        """It has its answer as soon as it is committed. False: it is none for this lane, or now."""
        if self._asking is None:
            self._reconnect()
            return False
        if not self._waiting and not self._flying:
            self._loop.call_soon(self._send)  # what arrives in the same moment goes with it
        self._waiting.append(entry)
        return True

    async def end(self) -> None:
        """All that was taken has its answer, or is the writer's; the connection is closed."""
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._waiting or self._flying:
            self._ended = self._loop.create_future()
            await self._ended
        self._close()

    def _send(self) -> None:
        if self._asking is None or self._flying or not self._waiting:
            return
        self._flying = self._next_group()
        try:
            question = plain_insertion([entry.item for entry in self._flying], self.process_id)
            if not self._asking.ask(*question):
                self._loop.add_writer(self._asking.socket, self._push)
        except Unanswered as error:
            self._give_up(error)
        except BaseException:  # whatever one of them has brought: the writer deals with it
            self._lose()
            raise

    def _next_group(self) -> list[Entry]:
        count = characters = 0
        for entry in self._waiting[:MOST_IN_GROUP]:
            characters += len(entry.item.jobs[0].args)
            if count and characters > MOST_CHARACTERS:
                break
            count += 1
        group = self._waiting[:count]
        del self._waiting[:count]
        return group

    def _push(self) -> None:
        assert self._asking is not None
        try:
            if self._asking.push():
                self._loop.remove_writer(self._asking.socket)
        except Unanswered as error:
            self._give_up(error)

    def _hear(self) -> None:
        """There is something to read: an answer, a part of it, or the connection's end."""
        assert self._asking is not None
        try:
            rows = self._asking.hear()
        except Unanswered as error:
            self._give_up(error)
            return
        except BaseException:  # nobody knows what is read next
            self._lose()
            raise
        if rows is None:
            return
        flown, self._flying = self._flying, []
        self._loop.call_soon(self._send)  # PostgreSQL works meanwhile
        self._loop.call_soon(self._answer, flown, rows)

    def _answer(self, flown: Sequence[Entry], rows: Sequence[tuple[Any, ...]]) -> None:
        items = [entry.item for entry in flown]
        try:
            accepted = read_plain(items, rows)
        except BaseException:
            self._hand_over(flown)
            self._end_if_done()
            raise
        answer_all(zip(flown, accepted, strict=True))
        self._end_if_done()
        self._tell([*zip(items, accepted, strict=True)])

    def _give_up(self, error: Unanswered) -> None:
        """What flies is the writer's; and all that waits, where the connection is lost."""
        if self._asking is not None and self._asking.is_lost:
            _log.warning("the quick lane is closed", cause=str(error))
            self._lose()
            return
        _log.warning("the quick lane's statement was refused", cause=str(error))
        flown, self._flying = self._flying, []
        self._hand_over(flown)
        self._send()
        self._end_if_done()

    def _lose(self) -> None:
        left = self._flying + self._waiting
        self._flying, self._waiting = [], []
        self._close()
        self._lost()
        self._hand_over(left)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._ended is not None and not self._waiting and not self._flying:
            self._ended.set_result(None)
            self._ended = None

    def _reconnect(self) -> None:
        if self._connecting is None and time.monotonic() > self._tried_at + PAUSE:
            self._tried_at = time.monotonic()
            self._connecting = asyncio.create_task(self._open(), name="lane")

    async def _open(self) -> None:
        try:
            asking = await to_thread.run_sync(self._connect)
        except SQLAlchemyError as error:
            _log.warning("the quick lane stays closed", cause=str(error))
            return
        finally:
            self._connecting = None
        self._asking = asking
        self._loop.add_reader(asking.socket, self._hear)

    def _close(self) -> None:
        if self._asking is not None:
            self._loop.remove_reader(self._asking.socket)
            self._loop.remove_writer(self._asking.socket)
            self._asking.close()
            self._asking = None
