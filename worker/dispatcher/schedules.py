"""Fires what is due: a look at one index a second, and a sleep until the next tick.

Any number of dispatchers may do it: who has a schedule's row decides its ticks.
"""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from jobs.hints import Hints
from jobs.schedules import firing, store
from jobs.schedules.code import forget_gone
from jobs.schedules.firing import Decision
from jobs.schedules.making import DueSchedule
from worker.dispatcher.loop import Rest

IDLE = 1.0  # seconds: a schedule that was changed unannounced is late by no more
LEAST = 0.01  # seconds between two looks, however many hints come
HELD = 0.2  # seconds, when what is due is in somebody else's hands
LIMIT = 1000  # schedules a transaction, and …
MOST_JOBS = 1000  # … jobs, but for a single schedule's: 0.2 s of PostgreSQL
SWEEP = 600.0  # seconds between two looks for schedules that have left the code
LONGEST = 0.3  # seconds of arithmetic before what has been found out is carried out

_log = structlog.get_logger(__name__)


class Schedules:
    """Everybody's schedules."""

    def __init__(self, hints: Hints, lease: timedelta, wake_dispatch: Callable[[], None]) -> None:
        self._hints, self._lease, self._wake_dispatch = hints, lease, wake_dispatch
        self._process_id = uuid4()
        self._swept_at = -math.inf

    def turn(self, connection: Connection) -> Rest:
        if time.monotonic() - self._swept_at > SWEEP:
            with connection.begin():
                forget_gone(connection, self._lease)
            self._swept_at = time.monotonic()
        with connection.begin():
            seconds = firing.find_next(connection)
        if seconds is None or seconds > IDLE:
            return Rest(IDLE, least=LEAST, heeds_after=LEAST)
        if seconds > 0:
            return Rest(max(seconds, LEAST), least=LEAST)
        with connection.begin():
            due = firing.list_due(connection, LIMIT)
        decisions, broken = _decide(due)
        for schedule in broken:
            _log.error("a schedule is paused: it has no times", schedule=str(schedule.id))
            with connection.begin():
                store.pause(connection, schedule.project_id, schedule.id)
        return self._fire(connection, decisions)

    def end(self, connection: Connection) -> None:
        pass

    def _fire(self, connection: Connection, decisions: list[Decision]) -> Rest:
        with connection.begin():
            fired = firing.fire(connection, decisions, self._process_id)
        self._hints.tell(fired.moved)
        if fired.queues:
            self._wake_dispatch()
            self._hints.wake(fired.queues)  # of the other dispatchers
        missed = sum(each.missed_count for each in decisions)
        if missed:
            _log.info("ticks were missed", ticks=missed)
        return Rest(0) if fired.schedules else Rest(HELD, least=HELD)


def _decide(due: list[DueSchedule]) -> tuple[list[Decision], list[DueSchedule]]:
    """For as many of them, from the first on, as one transaction carries; one at least.

    Beside them are those whose times nobody can tell any more: a zone has left the zones' data.
    """
    began = time.monotonic()
    decisions: list[Decision] = []
    broken: list[DueSchedule] = []
    jobs = 0
    for schedule in due:
        try:
            decision = firing.decide(schedule)
        except (ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            broken.append(schedule)
            continue
        jobs += len(decision.ticks)
        if decisions and jobs > MOST_JOBS:
            break
        decisions.append(decision)
        if time.monotonic() - began > LONGEST:
            break
    return decisions, broken
