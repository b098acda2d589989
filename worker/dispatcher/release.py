"""Lets scheduled and retrying jobs go when their time has come, and ends those that expired."""

from collections.abc import Callable

from sqlalchemy import Connection

from jobs import lifecycle
from jobs.dispatch import find_next_due
from jobs.hints import Hints
from worker.dispatcher.loop import Rest

IDLE = 1.0  # seconds: a job that became due unannounced is late by no more
LEAST = 0.2  # seconds between two looks, however many hints come
LIMIT = 500  # jobs a statement: 30 ms of PostgreSQL


class Release:
    """One look at the two indexes of times, and moves only when something is due."""

    def __init__(self, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._hints, self._wake_dispatch = hints, wake_dispatch

    def turn(self, connection: Connection) -> Rest:
        seconds = find_next_due(connection)
        if seconds is not None and seconds <= 0:
            moved = lifecycle.release_due(connection, LIMIT)
            moved += lifecycle.expire_due(connection, LIMIT)
            self._hints.tell(moved)
            self._wake_dispatch()
            if len(moved) >= LIMIT:
                return Rest(0)
            seconds = find_next_due(connection)
        if seconds is None or seconds > IDLE:
            return Rest(IDLE, least=LEAST, heeds_after=LEAST)
        wait = min(IDLE, max(seconds, LEAST))
        return Rest(wait, least=LEAST)

    def end(self, connection: Connection) -> None:
        pass
