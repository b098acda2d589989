"""What one request brings, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from jobs.lifecycle import Moved
from jobs.submissions import NewJob
from jobs.trail.tallies import Tally
from jobs.views import JobView

FailurePolicy = Literal["continue", "fail_fast"]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """The batch that an intake's jobs belong to: a new one, or one that is open."""

    id: UUID
    is_new: bool = True
    failure_policy: FailurePolicy = "continue"  #: fail_fast: the first failed job ends the others
    is_open: bool = False  #: more jobs will follow; until then it does not end
    on_complete: NewJob | None = None  #: runs when all have ended
    on_success: NewJob | None = None  #: runs when all have succeeded, else it is cancelled

    @property
    def callbacks(self) -> list[NewJob]:
        """The jobs that wait for its end."""
        return [job for job in (self.on_complete, self.on_success) if job is not None]


@dataclass(frozen=True, slots=True)
class Intake:
    """What one request brings: its jobs, all or none, under at most one key."""

    project_id: str
    jobs: Sequence[NewJob]
    key: str | None = None  #: Idempotency-Key
    fingerprint: bytes = b""  #: of the request, where it has a key
    batch: NewBatch | None = None
    tally: Tally | None = None  #: how the audit trail tells of its jobs

    @property
    def is_plain(self) -> bool:
        """Whether it depends on nothing that stands in the database but its key."""
        return self.batch is None and all(job.is_plain for job in self.jobs)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The jobs of a request in its order, as they are now."""

    jobs: list[JobView] = field(default_factory=list)
    replayed: bool = False  #: an earlier request with the same key made them
    found: frozenset[UUID] = frozenset()  #: of them: had the unique key before, and were kept
    callbacks: list[JobView] = field(default_factory=list)  #: that were made with the batch
    moved: list[Moved] = field(default_factory=list)  #: what was replaced

    @property
    def made(self) -> list[JobView]:
        """The jobs that exist because of the request."""
        if self.replayed:
            return []
        return [job for job in self.jobs if job.id not in self.found] + self.callbacks
