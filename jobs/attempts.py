"""How an attempt ended, in words that its row, its event and its reader share."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"  #: the handler returned
    FAILED = "failed"  #: it raised, and that ended the job
    RETRIED = "retried"  #: it raised, and another attempt comes
    CANCELLED = "cancelled"  #: it ended because a cancel was asked for
    CRASHED = "crashed"  #: its process died
    INTERRUPTED = "interrupted"  #: a deploy took its process away
    LEASE_LOST = "lease_lost"  #: it went on after another attempt had been allowed


WORKER_LOST = "WorkerLost"  #: the error's type where a lease ran out, and no holder said why


class Cause(StrEnum):
    EXCEPTION = "exception"  #: the handler raised
    FAIL = "fail"  #: the handler raised Fail
    TIMEOUT = "timeout"  #: the attempt was longer than its limit
    CRASHED = "crashed"  #: the process died
    MEMORY = "memory"  #: the process died for want of memory
    INVALID_ARGS = "invalid_args"  #: the stored args no longer fit the kind


@dataclass(frozen=True, slots=True)
class Error:
    """Why an attempt failed. `traceback` is of the handler's own frames."""

    cause: Cause
    type: str
    message: str
    traceback: str | None = None

    def document(self) -> dict[str, Any]:
        """As it stands in the job, its event and its attempt."""
        facts: dict[str, Any] = {
            "cause": str(self.cause),
            "type": self.type,
            "message": self.message,
        }
        return facts | ({"traceback": self.traceback} if self.traceback else {})


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt took of its machine, as far as that is known."""

    max_rss_bytes: int | None = None  #: the peak of its process and those that it made
    cpu_seconds: float | None = None
    #: By the process's own clock, less what it waited for a processor or on its way to PostgreSQL.
    run_seconds: float | None = None


UNKNOWN_USAGE = Usage()
