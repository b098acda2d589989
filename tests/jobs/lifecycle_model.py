"""The law of a job's life once more, in plain Python: what each call does, or with what it refuses.

Written from the contract and `jobs.states.Move`, not from the statements: tests compare the two.
"""

from dataclasses import dataclass, field
from uuid import UUID

from jobs.attempts import Outcome
from jobs.errors import InvalidTransition, JobNotFound, LeaseLost
from jobs.models import MAX_CRASHES
from jobs.states import FINAL, JobState, Move

S = JobState


@dataclass
class Life:
    """One job. A call changes it and returns its event's type, or raises and changes nothing."""

    id: UUID
    state: JobState
    max_attempts: int
    expires: bool | None = None  #: whether the time for a first start is over; None: it has none
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    is_cancel_requested: bool = False
    is_deleted: bool = False
    is_rung: bool = False
    is_due: bool = False  #: its `run_at` has come
    is_lease_out: bool = False
    holder: UUID | None = None
    cause: str | None = None  #: of its error
    result: int | None = None
    progress: float | None = None
    events: list[tuple[str, int]] = field(default_factory=lambda: [("created", 0)])
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    rescued: dict[int, UUID | None] = field(default_factory=dict)  #: attempts, and their holders
    steps: set[str] = field(default_factory=set)

    def start(self, attempt: int, worker: UUID, *, is_paused: bool) -> str:
        may = self.attempt > 0 or not self.expires
        if not self._may(Move.START) or attempt != self.attempt + 1 or is_paused or not may:
            raise LeaseLost(self.id, attempt)
        self.attempt, self.holder = attempt, worker
        self.is_lease_out, self.progress = False, None
        return self._make(Move.START)

    def record_progress(self, attempt: int, fraction: float) -> str:
        self._fence(attempt)
        self.progress = fraction
        return self._make(Move.PROGRESS)

    def record_log(self, attempt: int) -> str:
        self._fence(attempt)
        return self._make(Move.LOG)

    def record_step(self, attempt: int, name: str) -> str:
        self._fence(attempt)
        self.steps.add(name)
        return self._make(Move.STEP)

    def succeed(self, attempt: int, result: int) -> str:
        self._fence(attempt)
        self.result, self.cause = result, None
        return self._end(Move.SUCCEED, Outcome.SUCCEEDED)

    def retry_later(self, attempt: int, *, is_due: bool) -> str:
        self._fence(attempt)
        if self.is_cancel_requested:
            return self._end(Move.CANCEL_RUNNING, Outcome.CANCELLED)
        self.failures, self.cause, self.is_due = self.failures + 1, "exception", is_due
        return self._end(Move.RETRY_LATER, Outcome.RETRIED)

    def fail(self, attempt: int) -> str:
        self._fence(attempt)
        if self.is_cancel_requested:
            return self._end(Move.CANCEL_RUNNING, Outcome.CANCELLED)
        self.failures, self.cause = self.failures + 1, "exception"
        return self._end(Move.FAIL, Outcome.FAILED)

    def crash(self, attempt: int) -> str:
        self._fence(attempt)
        if self.is_cancel_requested:
            return self._end(Move.CANCEL_RUNNING, Outcome.CRASHED)
        self.crashes, self.cause = self.crashes + 1, "crashed"
        is_last = self.crashes == MAX_CRASHES
        return self._end(Move.CRASH_OUT if is_last else Move.CRASH, Outcome.CRASHED)

    def interrupt(self, attempt: int) -> str:
        self._fence(attempt)
        move = Move.CANCEL_RUNNING if self.is_cancel_requested else Move.INTERRUPT
        return self._end(move, Outcome.INTERRUPTED)

    def cancel_running(self, attempt: int) -> str:
        self._fence(attempt)
        return self._end(Move.CANCEL_RUNNING, Outcome.CANCELLED)

    def cancel(self) -> str | None:
        self._find()
        if self._may(Move.CANCEL):
            return self._make(Move.CANCEL)
        if self.state is S.CANCELLED or (self.state is S.RUNNING and self.is_cancel_requested):
            return None
        self._ask(Move.REQUEST_CANCEL)
        self.is_cancel_requested = True
        return self._make(Move.REQUEST_CANCEL)

    def retry(self) -> str:
        self._ask(Move.RETRY)
        self.failures = self.crashes = 0
        self.cause, self.is_cancel_requested, self.expires = None, False, None
        return self._make(Move.RETRY)

    def run_now(self) -> str:
        self._ask(Move.RUN_NOW)
        return self._make(Move.RUN_NOW)

    def delete(self) -> None:
        self._find()
        if self.state not in FINAL:
            raise InvalidTransition(self.id, self.state, "delete")
        self.is_deleted = True

    def release(self) -> str | None:
        """Its turn in the sweep of what is due."""
        is_ours = self._may(Move.RELEASE) and self.state is not S.WAITING and self.is_due
        return self._make(Move.RELEASE) if is_ours else None

    def expire(self) -> str | None:
        is_ours = self._may(Move.EXPIRE) and self.attempt == 0 and bool(self.expires)
        return self._make(Move.EXPIRE) if is_ours else None

    def rescue(self) -> str | None:
        if self.is_deleted or self.state is not S.RUNNING or not self.is_lease_out:
            return None
        self.rescued[self.attempt] = self.holder
        return self.crash(self.attempt)

    def renew(self, attempt: int, worker: UUID) -> bool:
        """Whether the attempt holds its job; then its lease is fresh, if it is the worker's."""
        is_running = not self.is_deleted and self.state is S.RUNNING and attempt == self.attempt
        if is_running and worker == self.holder:
            self.is_lease_out = False
        return is_running

    def mark_lost(self, attempt: int, worker: UUID) -> bool:
        is_ours = not self.is_deleted and self.rescued.get(attempt) == worker
        if is_ours:
            del self.rescued[attempt]
            self.outcomes[attempt] = Outcome.LEASE_LOST
        return is_ours

    def ring(self) -> None:
        self.is_rung = self.is_rung or (not self.is_deleted and self.state is S.QUEUED)

    def _may(self, move: Move) -> bool:
        return not self.is_deleted and self.state in move.sources

    def _fence(self, attempt: int) -> None:
        if self.is_deleted or self.state is not S.RUNNING or attempt != self.attempt:
            raise LeaseLost(self.id, attempt)

    def _find(self) -> None:
        if self.is_deleted:
            raise JobNotFound(self.id)

    def _ask(self, move: Move) -> None:
        self._find()
        if self.state not in move.sources:
            raise InvalidTransition(self.id, self.state, move.name)

    def _end(self, move: Move, outcome: Outcome) -> str:
        self.outcomes[self.attempt] = outcome
        return self._make(move)

    def _make(self, move: Move) -> str:
        assert self.state in move.sources
        self.state = move.target
        self.is_rung = self.is_rung and self.state is S.QUEUED
        self.events.append((move.event, self.attempt))
        return move.event
