"""The law of jobs that wait for others, and of batches, in plain Python; beside lifecycle_model.py.

Written from docs/how-to/wait-for-other-jobs.md and batches.md. What it calls a look is all that a
dispatcher does about them until there is nothing left to do.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobs.errors import BatchClosed
from jobs.states import FINAL, JobState, Move
from tests.jobs.lifecycle_model import Life


@dataclass
class Kin(Life):
    """A job that may wait for others, be of a batch, or have been submitted by another one."""

    waits_for: set[UUID] = field(default_factory=set)  #: jobs, or a batch
    is_let_down: bool = False  #: one of them has not succeeded
    has_time: bool = False  #: it waits for its `run_at` as well
    parent: UUID | None = None

    def know(self, ended: UUID, *, is_success: bool) -> None:
        """Somebody that it may wait for has ended."""
        if ended in self.waits_for:
            self.waits_for.discard(ended)
            self.is_let_down |= not is_success

    def go_on(self) -> bool:
        """Whether it waits no more: it is queued, or cancelled."""
        if self.is_deleted or self.state is not JobState.WAITING:
            return False
        if self.is_let_down:
            self._make(Move.CANCEL)
        elif not self.waits_for and (self.is_due or not self.has_time):
            self._make(Move.RELEASE)
        return self.state is not JobState.WAITING

    def end_with_its_batch(self) -> None:
        if self._may(Move.CANCEL):
            self._make(Move.CANCEL)
        elif self._may(Move.REQUEST_CANCEL) and not self.is_cancel_requested:
            self.is_cancel_requested = True
            self._make(Move.REQUEST_CANCEL)


@dataclass
class Group:
    """A batch."""

    id: UUID
    fails_fast: bool
    is_open: bool
    jobs: list[Kin]
    on_complete: Kin | None
    on_success: Kin | None
    reason: str | None = None  #: why its jobs are to end
    is_finished: bool = False

    @property
    def counts(self) -> Counter[str]:
        return Counter(str(job.state) for job in self.jobs if not job.is_deleted)

    @property
    def state(self) -> str:
        if not self.is_finished:
            return "running"
        if self._have_all_succeeded:
            return "succeeded"
        return "failed" if self.counts["failed"] or self.reason is None else "cancelled"

    def cancel(self) -> bool:
        if self.is_finished and self.reason is None:
            raise BatchClosed(self.id, "cancelling it")
        if self.is_finished or self.reason is not None:
            return False
        self.reason, self.is_open = "asked", False
        return True

    def look(self) -> None:
        """Its jobs end if they have to; and it does, with the last of them, once."""
        if self.is_finished:
            return
        if self.fails_fast and self.reason is None and self.counts["failed"]:
            self.reason, self.is_open = "fail_fast", False
        if self.reason is not None:
            for job in self.jobs:
                job.end_with_its_batch()
        if not self.is_open and all(job.is_deleted or job.state in FINAL for job in self.jobs):
            self.is_finished = True
            if self.on_complete is not None:
                self.on_complete.know(self.id, is_success=True)
            if self.on_success is not None:
                self.on_success.know(self.id, is_success=self._have_all_succeeded)

    @property
    def _have_all_succeeded(self) -> bool:
        return self.counts["succeeded"] == len(self.jobs)


def look(jobs: Sequence[Kin], groups: Collection[Group]) -> None:
    """A dispatcher has done all that there is to do about those that wait."""
    while True:
        for job in jobs:
            if job.state in FINAL and not job.is_deleted:
                tell(jobs, job)
        for group in groups:
            group.look()
        if not sum(job.go_on() for job in jobs):
            return


def tell(jobs: Sequence[Kin], ended: Kin) -> None:
    """Who waits for that job knows how it has ended."""
    for job in jobs:
        job.know(ended.id, is_success=ended.state is JobState.SUCCEEDED)
