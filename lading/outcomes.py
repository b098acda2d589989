"""How a handler ends its attempt other than by returning, and what is raised into it."""

from datetime import timedelta

from lading.durations import as_timedelta


class Retry(Exception):
    """Raise it: this attempt failed, and the next one comes after `after` seconds.

    It counts as a failure; when that was the last of the budget, the job fails.
    Without `after` the kind's retry policy chooses the wait.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(message or "the handler asked for a retry")
        self.after = None if after is None else as_timedelta(after)


class Fail(Exception):
    """Raise it: the job fails for good, whatever is left of its budget."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancel(Exception):
    """Raise it: the job is no longer wanted and becomes `cancelled`."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "cancelled by its handler")
        self.reason = reason or "cancelled by its handler"


class JobCancelled(BaseException):
    """Raised into a handler: a cancel was asked for, or this attempt no longer owns the job.

    A BaseException like `asyncio.CancelledError`, so that `except Exception` lets it pass. Clean up
    and re-raise.
    """


class JobTimeout(BaseException):
    """Raised into a handler shortly before its hard limit (5 s, or 10 % of it if that is less).

    A BaseException, so that `except Exception` lets it pass. Clean up and re-raise; a handler that
    goes on is ended at the hard limit.
    """
