"""Rings: marks what is next, and hangs the bells after the marks are committed."""

import math
import threading
import time
from collections import defaultdict
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import Connection

from jobs import dispatch
from jobs.broker import Bell, Broker
from jobs.dispatch import Standing, Turns
from jobs.errors import BrokerUnavailable
from worker.dispatcher.lists import Lists
from worker.dispatcher.loop import Rest
from worker.dispatcher.pace import Pace, gap

IDLE = 0.8  # seconds between looks: a job enqueued in SQL, without a hint, is seen within 1 s
BUSY = 0.1  # seconds, while there is a backlog or bells are being rung
DRY = 0.02  # seconds, while a window is too small for its backlog: all of it had been answered
HEEDS = 0.45  # seconds of IDLE: called by the lookout it takes a turn each 0.8 s at most
RECENT = 1.0  # seconds: a queue that has just been rung in is likely to be again
MOST_HANGING = 2  # windows of bells in the broker, of which more than one are stale
ASK_EVERY = 0.25  # seconds between questions how many hang, while it cannot be so many
BROKER_PAUSE = 0.5  # seconds between questions to a broker that did not answer, …
LONGEST_PAUSE = 4.0  # … doubled up to so many while it answers and refuses: full, or a replica

_log = structlog.get_logger(__name__)


class Window(NamedTuple):
    """How many bells of a queue may be unanswered now."""

    standing: Standing
    size: int


class Hanging(NamedTuple):
    """Bells of a queue in the broker."""

    asked_at: float  #: by the monotonic clock
    most: int  #: so many were there, and have been rung since: not more hang, as far as one knows


class Dispatch:
    """Keeps every queue's window full, as long as the broker answers.

    Rings once the epoch `has_begun`: before, nobody knows whether the marks have bells. The broker
    is asked between two transactions and never in one, so that no lock waits for it.
    """

    def __init__(self, broker: Broker, lease: timedelta, has_begun: threading.Event) -> None:
        self._broker, self._lease, self._has_begun = broker, lease, has_begun
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)
        self._lists = Lists()
        self._rung = Pace()
        self._rang_at = -RECENT
        self._is_away = False  #: the broker
        self._refusals = 0  #: of bells, without a success since
        self._hanging: dict[str, Hanging] = {}  #: by queue
        self._windows: dict[str, Window] = {}  #: at the last look, by queue
        self._rang_in: str | None = None  #: queue, the last one
        self._expects = False  #: a job, of which there was a hint
        self._epoch: UUID | None = None
        self._has_bells = False  #: that nobody had answered at the last look
        self._dispatchers = 1  #: that lived then, this one included

    def turn(self, connection: Connection) -> Rest:
        if not self._has_begun.is_set():
            return Rest(IDLE)
        bells = self._pick_at_once(connection)
        if not self._ring(connection, bells):
            return self._pause()
        windows = self._look(connection)
        try:
            windows = [self._shorten(each) for each in windows]
            bells, rest = self._fill(connection, windows, bells)
            self._ask_again(bells)
        except BrokerUnavailable as error:
            self._say_away(error)
            return Rest(BROKER_PAUSE, least=BROKER_PAUSE)
        self._is_away = False
        if self._lists.is_due:
            with connection.begin():
                self._lists.learn(connection)
        return rest

    def end(self, connection: Connection) -> None:
        pass

    def expect(self) -> None:
        """Something has come, of which the next turn may find out. From any thread."""
        self._expects = True

    def _fill(
        self, connection: Connection, windows: list[Window], rung: list[Bell]
    ) -> tuple[list[Bell], Rest]:
        """First what is not counted, a transaction each; the others together.

        All bells that hang now, of which some were `rung` before.
        """
        plain = [each for each in windows if not each.standing.is_counted]
        counted = [each for each in windows if each.standing.is_counted]
        bells, most = self._pick(connection, plain)
        has_rung = self._ring(connection, bells)
        if counted and has_rung:
            with connection.begin():
                more, most_of_these = self._pick(connection, counted)
            has_rung = self._ring(connection, more)
            bells, most = [*bells, *more], min(most, most_of_these)
        if not has_rung:
            return rung, self._pause()
        bells = [*rung, *bells]
        return bells, self._rest(_count(bells), most)

    def _pause(self) -> Rest:
        pause = min(LONGEST_PAUSE, BROKER_PAUSE * 2.0 ** (self._refusals - 1))
        return Rest(pause, least=pause)

    def _rest(self, bells: int, most: float) -> Rest:
        now = time.monotonic()
        if bells:
            self._rang_at = now
        self._rung.ring(bells)
        least = gap(self._rung.see(now, 0), self._dispatchers)
        if now - self._rang_at < RECENT:
            most = min(most, BUSY)
        is_idle = most == IDLE and not (self._has_bells or self._lists.is_learning)
        return Rest(most, least=least, heeds_after=HEEDS if is_idle else None)

    def _pick_at_once(self, connection: Connection) -> list[Bell]:
        """What is expected where the last one came, if that had room: before any look."""
        window = self._windows.get(self._rang_in or "") if self._expects else None
        self._expects = False
        if window is None or not self._has_place(window):
            return []
        queue = window.standing.queue
        picked = dispatch.pick_at_once(
            connection, queue, window.size, self._lease, self._turns[queue]
        )
        self._note(queue, len(picked))
        return self._lists.put_together(picked, window.standing.slots)

    def _has_place(self, window: Window) -> bool:
        """Whether neither a window nor the broker was full, as far as one knows without asking."""
        standing, size = window
        has_room = standing.rung < size and not standing.is_counted
        hanging = self._hanging.get(standing.queue)
        return has_room and hanging is not None and hanging.most + size <= MOST_HANGING * size

    def _look(self, connection: Connection) -> list[Window]:
        """Every queue's window, where something waits for it."""
        now = time.monotonic()
        self._has_bells = False
        self._windows = {}
        for standing in dispatch.survey(connection, self._lease):
            if standing.epoch != self._epoch:  # marks have gone that nobody has answered
                self._epoch = standing.epoch
                self._paces.clear()
            self._has_bells = self._has_bells or standing.rung > 0
            self._dispatchers = standing.dispatchers
            starts = self._paces[standing.queue].see(now, standing.rung)
            size = dispatch.window(standing.slots, starts)
            self._windows[standing.queue] = Window(standing, size)
        return [each for each in self._windows.values() if each.standing.kinds]

    def _shorten(self, window: Window) -> Window:
        """Only so long that the broker holds at most MOST_HANGING of them.

        Who cancels a job leaves its bell behind, and another one follows it: without workers that
        hear and drop them, they would pile up.
        """
        standing, size = window
        if standing.rung >= size:
            return window
        most = MOST_HANGING * size
        known = self._hanging.get(standing.queue)
        hanging = math.inf if known is None else known.most
        if hanging + size - standing.rung > most:
            hanging = self._ask(standing.queue)
        return Window(standing, min(size, standing.rung + max(0, most - int(hanging))))

    def _ask_again(self, bells: list[Bell]) -> None:
        """How many hang where these do now: so that nobody waits for the answer later."""
        for queue in {bell.queue for bell in bells}:
            hanging = self._hanging.get(queue)
            if hanging is not None and time.monotonic() > hanging.asked_at + ASK_EVERY:
                self._ask(queue)

    def _ask(self, queue: str) -> int:
        hanging = self._broker.queue_length(queue)
        self._hanging[queue] = Hanging(time.monotonic(), hanging)
        return hanging

    def _note(self, queue: str, picked: int) -> None:
        """So many are about to be rung for."""
        self._paces[queue].ring(picked)
        if picked:
            self._rang_in = queue
        if (hanging := self._hanging.get(queue)) is not None:
            self._hanging[queue] = hanging._replace(most=hanging.most + picked)

    def _pick(self, connection: Connection, windows: list[Window]) -> tuple[list[Bell], float]:
        """The bells to ring, and after how many seconds to look again at the latest."""
        bells: list[Bell] = []
        most = IDLE
        for standing, size in windows:
            turns = self._turns[standing.queue]
            has_room = standing.rung < size
            picked = dispatch.pick(connection, standing, size, turns) if has_room else []
            self._note(standing.queue, len(picked))
            bells += self._lists.put_together(picked, standing.slots)
            if standing.is_counted:
                most = min(most, BUSY)
            elif standing.rung + len(picked) >= size:  # perhaps more waits
                most = min(most, DRY if picked and not standing.rung else BUSY)
        return bells, most

    def _ring(self, connection: Connection, bells: list[Bell]) -> bool:
        """Whether the bells hang; else their marks are taken back."""
        if not bells:
            return True
        try:
            self._broker.ring(bells)
        except BrokerUnavailable as error:
            self._refusals += 1
            self._say_away(error)
            with connection.begin():
                dispatch.take_back(connection, bells)
            for bell in bells:
                self._paces[bell.queue].ring(-len(bell.attempts))
            return False
        self._refusals = 0
        return True

    def _say_away(self, error: BrokerUnavailable) -> None:
        self._hanging.clear()  # it is asked before anything is marked again
        if not self._is_away:
            _log.warning("bells wait for the broker", reason=repr(error.__cause__))
        self._is_away = True


def _count(bells: list[Bell]) -> int:
    return sum(len(bell.attempts) for bell in bells)
