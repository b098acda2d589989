"""The recorder: one thread per process sends progress and logs, and hears what the parent says.

Handlers only leave notes; nothing they say makes them wait for PostgreSQL. What is left at the end
is sent by `flush`, before the report.
"""

import threading
import time
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jobs import lifecycle
from jobs.database import translated
from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.forks import busy
from jobs.hints import Hints
from jobs.logs import drop_lines
from worker.board import Board
from worker.lines import Lines
from worker.link import Stop
from worker.notes import Notes

FLUSH_EVERY = 0.1  # seconds
IDLE_TICKS = 50  # without an attempt, then the thread sleeps until one begins

_log = structlog.get_logger(__name__)


class Recorder:
    """For the attempts of one process; made after its fork."""

    def __init__(self, lines: Lines, hints: Hints, board: Board) -> None:
        self._lines, self._hints, self._board = lines, hints, board
        self._open: dict[tuple[UUID, int], Notes] = {}
        self._begun = 0
        self._awake = threading.Event()
        self._idle = True
        threading.Thread(target=self._run, name="recorder", daemon=True).start()

    def open(self, notes: Notes) -> None:
        """From now on the notes are sent as they come, and their attempt hears of a cancel."""
        self._open[notes.link.facts.job_id, notes.link.facts.attempt] = notes
        self._begun += 1
        if self._idle:
            self._awake.set()

    def close(self, notes: Notes) -> None:
        """Nothing is sent for the attempt any more."""
        self._open.pop((notes.link.facts.job_id, notes.link.facts.attempt), None)

    def flush(self, notes: Notes) -> None:
        """All notes are stored. LeaseLost; DatabaseUnavailable: try again, nothing has gone."""
        if notes.is_empty and not notes.sending.locked():
            return
        with notes.sending, translated(), self._lines.line() as connection:
            self._send(connection, notes)

    def _run(self) -> None:
        begun, ticks = 0, 0
        while True:
            ticks = 0 if self._open or begun != self._begun else ticks + 1
            begun = self._begun
            if ticks > IDLE_TICKS:
                self._sleep(begun)
            with busy():
                self._listen()
                self._tick()
            time.sleep(FLUSH_EVERY)

    def _sleep(self, begun: int) -> None:
        self._awake.clear()
        self._idle = True
        if begun == self._begun:  # else one began before it could know that it has to wake us
            self._awake.wait()
        self._idle = False

    def _tick(self) -> None:
        self._hints.rouse()
        for notes in self._open.copy().values():
            if notes.is_empty:
                continue
            try:
                self.flush(notes)
            except LeaseLost:
                self._lose(notes)
            except DatabaseUnavailable:
                return  # the notes are kept
            except SQLAlchemyError:
                _log.exception("notes are dropped", job_id=str(notes.link.facts.job_id))
                notes.clear()

    def _send(self, connection: Connection, notes: Notes) -> None:
        facts = notes.link.facts
        while lines := notes.next_batch():
            if notes.dropped:
                self._confess(connection, notes)
            moved = lifecycle.record_log(
                connection, facts.job_id, attempt=facts.attempt, lines=lines
            )
            self._hints.tell([moved])
            if gone := notes.arrived(moved.seq):
                drop_lines(connection, facts.job_id, gone)
        if (progress := notes.take_progress()) is None:
            return
        try:
            fraction, message = progress
            self._hints.tell(
                [
                    lifecycle.record_progress(
                        connection,
                        facts.job_id,
                        attempt=facts.attempt,
                        fraction=fraction,
                        message=message,
                    )
                ]
            )
        except SQLAlchemyError:
            notes.give_back(progress)
            raise

    def _confess(self, connection: Connection, notes: Notes) -> None:
        """An event says how many lines gave way before they could be sent."""
        facts, count = notes.link.facts, notes.dropped
        moved = lifecycle.record_log(connection, facts.job_id, attempt=facts.attempt, lines=[])
        drop_lines(connection, facts.job_id, [(moved.seq, count)])
        self._hints.tell([moved])
        notes.dropped -= count

    def _listen(self) -> None:
        for key, notes in self._open.copy().items():
            if notes.link.reason is None and self._board.heard(*key).is_cancelled:
                notes.link.stop(Stop.CANCELLED)

    def _lose(self, notes: Notes) -> None:
        notes.link.stop(Stop.LOST)
        notes.clear()
