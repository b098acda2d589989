"""What else hangs in a bell's queue, heard by the pool process that has just done what it said.

While every slot is taken, the worker's parent hears nothing, and bells wait. A process that comes
to an end would report, tell its parent, and get the next bell from it: a millisecond of CPU. It
hears that bell itself instead, and goes on as if its own had been longer. It never waits for what
does not hang yet, and what it takes and cannot make it hangs back.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import redis
import structlog

from jobs.broker import Bell, lists_of, read_bell
from jobs.redis_connection import redis_connection
from worker.board import Board

WITHIN = 0.25  # seconds that the broker may take: a report waits for its answer
PAUSE = 2.0  # seconds without a question, after the broker has not answered
TURN = 0.1  # seconds after which the parent decides what is next: it serves other queues, too
MOST = 100  # attempts of a bell and what is heard after it, for what the parent is told of each

_log = structlog.get_logger(__name__)


class Heard(NamedTuple):
    """A bell, and the message that it was."""

    message: bytes
    bell: Bell | None  #: None: the message is none of ours


class Hearing:
    """A pool process's. Of one thread."""

    def __init__(self, broker_url: str, board: Board) -> None:
        self._board = board
        self._connect = partial(redis_connection, broker_url, within=WITHIN)
        self._connection: Any = None
        self._not_before = 0.0  # by the monotonic clock
        self._per_bell = 1.0  # attempts, lately

    def more(self, queue: str, kind: str, most: int) -> list[tuple[UUID, int]]:
        """Attempts of the kind whose bells hang next in the queue: about `most`, mostly none.

        Bells that are lost here are rung again.
        """
        now = time.monotonic()
        if not self._board.all_taken or now < self._not_before:
            return []
        taken: list[Bell] = []
        try:
            key, messages = self._pop(queue, max(1, int(most / self._per_bell)))
            heard = [Heard(each, read_bell(each)) for each in messages]
            taken, left = _share(heard, kind, most)
            if left:
                if not taken:  # others' bells come first: they are the parent's for a while
                    self._not_before = now + PAUSE
                self._ask("RPUSH", key, *[each.message for each in reversed(left)])
        except (redis.RedisError, OSError) as error:
            _log.info("no more bells for now", reason=repr(error))
            self._close()
            self._not_before = now + PAUSE
        if not taken:
            return []
        named = [attempt for bell in taken for attempt in bell.attempts]
        self._per_bell = len(named) / len(taken)
        return [each for each in named if not self._board.names(*each)]

    def _pop(self, queue: str, count: int) -> tuple[str, list[bytes]]:
        keys = lists_of(queue)
        answer = self._ask("LMPOP", len(keys), *keys, "RIGHT", "COUNT", count)
        return (keys[0], []) if answer is None else (answer[0].decode(), answer[1])

    def _ask(self, *command: Any) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.send_command(*command, check_health=False)
            return self._connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:  # the answer may still come, and would be taken for another's
            self._close()
            raise

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(redis.RedisError, OSError):
                self._connection.disconnect()
            self._connection = None


def _share(heard: Sequence[Heard], kind: str, most: int) -> tuple[list[Bell], Sequence[Heard]]:
    """What is made here, the first of them, and what hangs back."""
    taken: list[Bell] = []
    count = 0
    for number, (_, bell) in enumerate(heard):
        if bell is None or not _fits(bell, kind) or count >= most:
            return taken, heard[number:]
        taken.append(bell)
        count += len(bell.attempts)
    return taken, []


def _fits(bell: Bell, kind: str) -> bool:
    return bell.kind == kind and not bell.is_limited and bool(bell.attempts)
