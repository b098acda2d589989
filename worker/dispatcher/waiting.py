"""Lets jobs go, or ends them, once those that they wait for have ended; and ends batches."""

import time
from collections.abc import Callable

from sqlalchemy import Connection

from jobs import lifecycle
from jobs.hints import Hints
from jobs.lifecycle import Moved
from jobs.states import JobState
from jobs.waiting import endings, parents
from worker.dispatcher.loop import Rest

IDLE = 0.5  # seconds between looks: what began to wait is seen by then
BUSY = 0.1  # seconds, while anything waits
LIMIT = 500  # jobs a statement: 30 ms of PostgreSQL
LONGEST = 1.0  # seconds, and …
SHARE = 1 / 10  # … of a core, at most: ten thousand unfinished batches take 50 ms to look at
BATCHES = 50  # that are ended, or cancelled, a turn


class Waiting:
    """One look, and then only what there is to do, in short transactions that wait for nobody."""

    def __init__(self, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._hints, self._wake_dispatch = hints, wake_dispatch

    def turn(self, connection: Connection) -> Rest:
        began = time.monotonic()
        news = parents.look(connection)
        done = 0
        if news.to_tell:
            with connection.begin():
                done += parents.tell(connection, LIMIT)
        if news.to_settle:
            with connection.begin():
                done += parents.settle(connection, LIMIT)
        if news.batches:
            done += self._end_batches(connection)
        if done or news.let_go:
            done += self._let_go(connection)
        if done:
            return Rest(0)
        if not (news.is_waiting or news.batches):
            return Rest(IDLE, heeds_after=0.0)
        took = time.monotonic() - began
        return Rest(min(LONGEST, max(BUSY, took / SHARE)))

    def end(self, connection: Connection) -> None:
        pass

    def _end_batches(self, connection: Connection) -> int:
        with connection.begin():
            done = endings.fail_fast(connection)
            cancelled = endings.find_cancelled(connection, BATCHES)
        for batch in cancelled:
            with connection.begin():
                moved = lifecycle.cancel_of_batch(connection, batch.id, batch.reason, LIMIT)
            self._tell(moved)
            done += len(moved)
        with connection.begin():
            return done + endings.end_batches(connection, BATCHES)

    def _let_go(self, connection: Connection) -> int:
        with connection.begin():
            moved = lifecycle.release_let_go(connection, LIMIT)
            moved += lifecycle.cancel_let_down(connection, LIMIT)
        self._tell(moved)
        return len(moved)

    def _tell(self, moved: list[Moved]) -> None:
        self._hints.tell(moved)
        if any(each.state is JobState.QUEUED for each in moved):
            self._wake_dispatch()
