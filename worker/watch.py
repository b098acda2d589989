"""The watch: a thread of the parent that ends what must not run on, and reports who died.

It stands on the board alone, not on Celery's event loop, which hangs while the broker is away:
time limits, deaths, the self-fence and the end of a deploy's patience hold meanwhile as well.
"""

import math
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from celery.platforms import EX_FAILURE
from celery.worker import state

from jobs.attempts import Cause
from jobs.forks import busy
from jobs.settings import Settings
from worker import exits
from worker.board import Board, Running, Said
from worker.memory import MemoryEvents
from worker.reports import Reports
from worker.sampler import Sampler
from worker.usage import family
from worker.verdicts import (
    CANCELLED,
    FENCED,
    HELD_UP,
    NOT_BEGUN,
    OVERRUN,
    STOPPED,
    TAKEN_ALONG,
    TERMINATED,
    Verdict,
    too_large,
)

LOOK_EVERY = 0.1  # seconds, while anything runs; a new attempt is looked at when Celery hears of it
LOOK_IDLE = 0.9  # seconds: at the latest, for Celery may hang
LINGER = 1.0  # seconds after the last attempt, for the next one
SAYS_WITHIN = 1.0  # seconds
LONG = 0.25  # seconds of an attempt, after which the others of its handful go without it
LEAVE_AFTER = 1.5  # seconds from the end of patience to the end of the process, if it hangs …
LAST_WORDS = 0.4  # … and, of the patience, more while PostgreSQL is away: 25 s + 10 s, of 40 s
_log = structlog.get_logger(__name__)


class Watch(ABC):
    """What both pools share. `run` is the thread's; the others may be called by any."""

    def __init__(self, settings: Settings, board: Board, reports: Reports) -> None:
        self.board, self.reports = board, reports
        self.renewed_at = time.monotonic()  #: when a beat that succeeded was begun
        self._fence = settings.self_fence.total_seconds()
        self._patience = settings.soft_shutdown_seconds
        self._grace = settings.cancel_grace_seconds
        self._cancelled: dict[tuple[UUID, int], float] = {}  #: when that was heard of
        self._said: dict[tuple[UUID, int], Said] = {}
        self._withdrawn: set[tuple[UUID, int]] = set()
        self._stop_by: float | None = None
        self._hurried, self._closing = threading.Event(), threading.Event()
        self._farewell: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def begin(self, farewell: Callable[[], object]) -> None:
        """The thread runs. `farewell` is called before it ends the process, if it has to."""
        self._farewell = farewell
        self._thread.start()

    def hurry(self) -> None:
        """An attempt begins. Never blocks."""
        self._hurried.set()

    def stop_soon(self) -> None:
        """The worker stops, when its attempts have ended or its patience has."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._patience

    def stop_now(self) -> None:
        """The worker has no patience left. Signal handlers may call both."""
        self._stop_by = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """For the last reports, once the patience is over."""
        end = (self._stop_by or 0.0) + self._patience * LAST_WORDS
        return LEAVE_AFTER + max(end - time.monotonic(), 0.0)

    def close(self) -> None:
        """The thread looks no more, and what still stood on the board is about to be reported."""
        self._closing.set()
        self._hurried.set()
        if self._thread.is_alive():
            self._thread.join()
        self.stop_now()
        self._settle()

    def cancel(self, running: Running) -> None:
        """The attempt hears that it is to end, and is made to after a grace. Any thread may ask."""
        self._cancelled.setdefault(running.key, time.monotonic())

    @abstractmethod
    def end(self, running: Running, verdict: Verdict) -> None:
        """The attempt is made to end, and reported in the sense of the verdict."""

    def heard(self, pid: int, words: str) -> None:  # noqa: B027 - threads have no processes
        """The pool says how a process of its ended."""

    def _measure(self, standing: list[Running], now: float) -> None:  # noqa: B027 - see above
        """What the attempts take of the machine is looked at."""

    def _peak(self, _running: Running) -> int:
        """Bytes that the attempt's processes took at most, as far as that was seen."""
        return 0

    def _lives(self, _running: Running) -> bool:
        """Whether somebody still makes the attempt."""
        return True

    @abstractmethod
    def _look(self, standing: list[Running], now: float) -> None: ...

    @abstractmethod
    def _settle(self) -> None:
        """Everything that stands on the board is reported; nothing of it runs on."""

    def _run(self) -> None:
        try:
            self._keep_looking()
        finally:
            if not self._closing.is_set():  # a worker that nobody watches would break its promises
                _log.critical("the watch has failed")
                os._exit(EX_FAILURE)

    def _keep_looking(self) -> None:
        active_until = time.monotonic()
        while not self._pauses(is_idle=time.monotonic() > active_until):
            now = time.monotonic()
            is_hurried = self._hurried.is_set()
            self._hurried.clear()  # before the look, so that what comes during it is not missed
            standing = self.board.running()
            if is_hurried or standing or self._stop_by is not None:
                active_until = now + LINGER
            with busy():
                self._look_after(standing, now)
            if self._must_leave(standing, now):
                self._leave(state.should_stop or 0)

    def _pauses(self, *, is_idle: bool) -> bool:
        """Whether the thread is to look no more, once it is time for the next look."""
        if is_idle:
            self._hurried.wait(LOOK_IDLE)
            return self._closing.is_set()
        return self._closing.wait(LOOK_EVERY)

    def _look_after(self, standing: list[Running], now: float) -> None:
        self._measure(standing, now)
        self._pass_on(standing)
        for running in standing:
            if (verdict := self._judge(running, now)) is not None:
                self.end(running, verdict)
        self._look(standing, now)

    def _pass_on(self, standing: list[Running]) -> None:
        """Each attempt hears what is new of it; what has ended is forgotten."""
        keys = {running.key for running in standing}
        for key in [*self._cancelled]:  # a copy: the heartbeat adds to it
            if key not in keys:
                del self._cancelled[key]
        self._withdrawn &= keys
        before, self._said = self._said, {}
        for running in standing:
            is_cancelled, is_withdrawn = (
                running.key in self._cancelled,
                running.key in self._withdrawn,
            )
            said = Said(is_cancelled, is_withdrawn, self._peak(running))
            self._said[running.key] = said
            if said != before.get(running.key, Said()):
                self.board.say(running, said)

    def _judge(self, running: Running, now: float) -> Verdict | None:
        """Why the attempt must not run on, if so."""
        if now > running.since + running.limit:
            return OVERRUN
        if running.is_reporting:  # by whoever holds the job: its attempt is the guard
            return None
        if self._stop_by is not None and now > self._stop_by:
            return STOPPED
        if running.is_claimed and now > max(self.renewed_at, running.since) + self._fence:
            return FENCED
        if now > self._cancelled.get(running.key, math.inf) + self._grace:
            return CANCELLED
        return None

    def _must_leave(self, standing: list[Running], now: float) -> bool:
        """Whether the time has come; an attempt that only reports is waited for a little longer."""
        if self._stop_by is None or now < self._stop_by + LEAVE_AFTER:
            return False
        return self.seconds_left <= LEAVE_AFTER or not any(
            running.is_reporting and self._lives(running) for running in standing
        )

    def _leave(self, code: int) -> None:
        """The process ends now: Celery would wait for what will not come."""
        self._settle()
        self.reports.drain(self.seconds_left)
        self._farewell()
        os._exit(code)


class ProcessWatch(Watch):
    """For a pool of processes: an attempt is ended by killing the child that makes it.

    `on_death` is called when a child has been found dead, so that it is replaced at once: Celery
    itself may look for it a moment too early, and then only 5 s later.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        reports: Reports,
        pool: Callable[[], Any],
        on_death: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(settings, board, reports)
        self._pool, self._on_death = pool, on_death
        self._verdicts: dict[tuple[int, UUID, int], Verdict] = {}
        self._words: dict[int, str] = {}
        self._missed: dict[int, float] = {}
        self._relieved: set[tuple[int, UUID, int]] = set()
        self._memory = MemoryEvents()
        self._sampler = Sampler()

    def end(self, running: Running, verdict: Verdict) -> None:
        key = (running.pid, *running.key)
        if key in self._verdicts:
            return
        if exits.look(running.pid) is not None:  # its number may be somebody else's by now
            return
        # Halted, so that it does not go on to another attempt between the look and the kill.
        with suppress(ProcessLookupError), exits.halted(running.pid):
            standing = [each for each in self.board.running() if each.pid == running.pid]
            if running not in standing:
                return
            for each in standing:
                for_others = STOPPED if verdict is STOPPED else TAKEN_ALONG
                self._verdicts.setdefault((each.pid, *each.key), for_others)
            self._verdicts[key] = verdict
            _log.info("killing a pool process", pid=running.pid, detail=verdict.detail)
            for pid, _ in family(running.pid):  # with what the handler has started
                with suppress(OSError):  # it has ended, or has become another user's
                    os.kill(pid, signal.SIGKILL)

    def _lives(self, running: Running) -> bool:
        return exits.look(running.pid) is None

    def _measure(self, standing: list[Running], now: float) -> None:
        self._sampler.look(standing, now)

    def _peak(self, running: Running) -> int:
        return self._sampler.peak(running)

    def _judge(self, running: Running, now: float) -> Verdict | None:
        verdict = super()._judge(running, now)
        if verdict is STOPPED and self._follows(running):
            return None
        if verdict is None and running.memory_limit and running.is_handling:
            used = self._sampler.used(running)
            return too_large(used, running.memory_limit) if used > running.memory_limit else None
        return verdict

    def _follows(self, running: Running) -> bool:
        """Whether it only waits for another attempt of its process."""
        return _waits(running, self._places_of(running.pid))

    def heard(self, pid: int, words: str) -> None:
        self._words[pid] = exits.said(words)

    def _look(self, standing: list[Running], now: float) -> None:
        self._relieve(standing, now)
        for pid in {running.pid for running in standing}:
            how = exits.look(pid)
            if how == exits.REAPED:
                how = self._told(pid) or self._after_a_while(pid, now)
            if how in exits.TERMINATED and self._stop_by is None:
                # Perhaps the whole group was told to stop, and we hear of it next.
                how = how if self._after_a_while(pid, now) else None
            if how is not None:
                self._bury(pid, how)

    def _relieve(self, standing: list[Running], now: float) -> None:
        """Where an attempt takes long, what is done is reported, and what has not begun is not to.

        Whoever begins says so, and then hears whether it may; we say that it may not, and then look
        whether it has begun. So one of us gives it back, and mostly not both.
        """
        held_up = {each.pid for each in standing if each.is_handling and now > each.since + LONG}
        self._relieved &= {(each.pid, *each.key) for each in standing}
        for running in standing:
            key = (running.pid, *running.key)
            if running.pid not in held_up or running.is_handling or key in self._relieved:
                continue
            if not running.is_claimed:
                self._withdraw(running)
                self._relieved.add(key)
            elif (success := self.board.kept(running)) is not None:
                self.reports.add_success(success)
                self._relieved.add(key)

    def _withdraw(self, running: Running) -> None:
        self._withdrawn.add(running.key)
        self.board.say(running, Said(is_withdrawn=True))
        if self.board.has_not_begun(running):
            self.reports.add(running, HELD_UP)
            self.board.clear(running)

    def _settle(self) -> None:
        for running in self.board.running():
            self.end(running, STOPPED)
        for pid in {running.pid for running in self.board.running()}:
            how = exits.look(pid) or self._told(pid)
            if how is None:  # it was killed just now, or nobody knows any more
                for running in self._places_of(pid):
                    self._verdicts.setdefault((pid, *running.key), STOPPED)
            self._bury(pid, how or "")

    def _told(self, pid: int) -> str | None:
        return self._words.get(pid) or exits.reaped(self._pool(), pid)

    def _after_a_while(self, pid: int, now: float) -> str | None:
        """The pool has reaped the process, and is just about to say how it ended."""
        first = self._missed.setdefault(pid, now)
        return "its process is gone" if now > first + SAYS_WITHIN else None

    def _places_of(self, pid: int) -> list[Running]:
        return [running for running in self.board.running() if running.pid == pid]

    def _bury(self, pid: int, how: str) -> None:
        """All that the dead process leaves is reported: it changes nothing there any more."""
        self._missed.pop(pid, None)
        self._words.pop(pid, None)
        left = self._places_of(pid)
        for running in left:
            verdict = self._verdicts.pop((pid, *running.key), None)
            if (success := self.board.kept(running)) is not None:
                self.reports.add_success(success)
            elif not self._runs_elsewhere(running):
                verdict = verdict or (NOT_BEGUN if _waits(running, left) else self._found(how))
                self.reports.add(running, verdict, self._sampler.total(running))
        for running in left:
            self.board.clear(running)
        self._on_death()

    def _found(self, how: str) -> Verdict:
        if how in exits.TERMINATED and self._stop_by is not None:
            return TERMINATED
        if self._memory.have_killed():
            return Verdict(None, f"its process was killed for want of memory: {how}", Cause.MEMORY)
        return Verdict(None, f"its process died: {how}")

    def _runs_elsewhere(self, dead: Running) -> bool:
        """Whether it had lost the claim of its attempt to another child."""
        return not dead.is_claimed and any(
            running.key == dead.key and running.pid != dead.pid for running in self.board.running()
        )


def _waits(running: Running, fellows: list[Running]) -> bool:
    """Whether it has not begun, and another of its process was before it."""
    return not running.is_claimed and any(
        fellow.is_claimed or fellow.since < running.since for fellow in fellows
    )
