"""The states of a job and its moves; guards, checks, diagram and tests are derived from here."""

from enum import Enum, StrEnum


class JobState(StrEnum):
    WAITING = "waiting"  #: for other jobs; the dispatcher releases it once they have succeeded
    SCHEDULED = "scheduled"  #: for its `run_at`; the dispatcher releases it then
    QUEUED = "queued"  #: may start; a worker claims it as soon as it has a free slot
    RUNNING = "running"  #: one attempt holds it; whoever moves it on names that attempt
    RETRYING = "retrying"  #: an attempt failed; the dispatcher releases it at its `run_at`
    SUCCEEDED = "succeeded"  #: final: the handler returned
    FAILED = "failed"  #: final: a budget is spent, or the error is for good
    CANCELLED = "cancelled"  #: final: asked for, expired, or a job it waited for failed


S = JobState
FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})


class Move(Enum):
    """An arrow of the diagram: the states it may leave, the one it reaches, its event, and why."""

    RELEASE = (S.WAITING, S.SCHEDULED, S.RETRYING), S.QUEUED, "queued", "its time has come"
    RUN_NOW = (S.SCHEDULED, S.RETRYING), S.QUEUED, "queued", "somebody does not want to wait"
    START = (S.QUEUED,), S.RUNNING, "started", "a worker claims the next attempt"
    PROGRESS = (S.RUNNING,), S.RUNNING, "progress", "the handler tells how far it is"
    LOG = (S.RUNNING,), S.RUNNING, "log", "the handler writes log lines"
    STEP = (S.RUNNING,), S.RUNNING, "step", "the handler stores the result of a step"
    REQUEST_CANCEL = (
        (S.RUNNING,),
        S.RUNNING,
        "cancel_requested",
        "somebody asks a running job to end",
    )
    SUCCEED = (S.RUNNING,), S.SUCCEEDED, "succeeded", "the handler returned"
    RETRY_LATER = (S.RUNNING,), S.RETRYING, "retrying", "the attempt failed, and budget is left"
    FAIL = (S.RUNNING,), S.FAILED, "failed", "the attempt failed, and it was the last"
    CRASH = (S.RUNNING,), S.QUEUED, "crashed", "the attempt's process died"
    CRASH_OUT = (S.RUNNING,), S.FAILED, "failed", "the attempt's process died for the third time"
    INTERRUPT = (S.RUNNING,), S.QUEUED, "interrupted", "a deploy took the attempt's process away"
    CANCEL_RUNNING = (
        (S.RUNNING,),
        S.CANCELLED,
        "cancelled",
        "the attempt ends after a cancel request",
    )
    CANCEL = (S.WAITING, S.SCHEDULED, S.QUEUED, S.RETRYING), S.CANCELLED, "cancelled", "asked for"
    EXPIRE = (S.WAITING, S.SCHEDULED, S.QUEUED), S.CANCELLED, "cancelled", "not started in time"
    RETRY = (S.FAILED, S.CANCELLED, S.RETRYING), S.QUEUED, "queued", "somebody wants it run again"

    def __init__(
        self, sources: tuple[JobState, ...], target: JobState, event: str, because: str
    ) -> None:
        self.sources, self.target, self.event, self.because = sources, target, event, because

    @property
    def is_report(self) -> bool:
        """Whether the holder of a running attempt makes it, so that it is fenced by the attempt."""
        return self.sources == (S.RUNNING,) and self is not Move.REQUEST_CANCEL

    @property
    def ends_attempt(self) -> bool:
        """Whether a running attempt is over with it."""
        return S.RUNNING in self.sources and self.target is not S.RUNNING
