"""Whether and when a request is sent again."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lading.client.errors import LadingError, Unreachable, error_of, problem_in
from lading.client.exchange import Answer, Lost, Repeat, Request

BASE, CAP = 0.25, 10.0  # seconds: a restart takes one or two; more than ten helps no server
_LATER = {429, 502, 503, 504}
_IN_FLIGHT = "idempotency-in-flight"
_NOT_BEGUN = {"draining", "overloaded"}  # a 503 with another code may come after the deed


class Trying:
    """How one call goes on after failures: with full jitter, for at most `patience` seconds.

    The wait after the n-th failure is a random share of min(CAP, BASE · 2ⁿ) seconds, on top of what
    a Retry-After asks for.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, clock
        self._failing_since: float | None = None
        self.failures = 0

    def heard(self) -> None:
        """The server is there: all of the patience is, too."""
        self._failing_since = None

    def succeeded(self) -> None:
        """It goes well again: the next failure is a first one."""
        self.failures, self._failing_since = 0, None

    def pause_after(self, request: Request, reply: Answer | Lost) -> float:
        """Seconds until it may be sent again. Raises what went wrong if it must not be."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        seconds = self.next_pause(_retry_after(reply))
        is_late = now + seconds > self._failing_since + self._patience
        if is_late or not _may_help(request, reply):
            raise _error(reply) from _cause(reply)
        return seconds

    def next_pause(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure."""
        self.failures += 1
        longest: float = min(CAP, BASE * 2.0 ** min(self.failures, 16))
        return at_least + random.random() * longest


def _may_help(request: Request, reply: Answer | Lost) -> bool:
    """Whether the same request, sent later, can go better and does no harm."""
    if isinstance(reply, Lost):
        is_safe = request.repeat is Repeat.ALWAYS or not reply.was_sent
        return is_safe and not reply.is_hopeless
    problem = problem_in(reply) or {}
    if reply.status in _LATER:
        return (
            request.repeat is Repeat.ALWAYS
            or reply.status == 429  # noqa: PLR2004
            or problem.get("code") in _NOT_BEGUN
        )
    return problem.get("code") == _IN_FLIGHT


def _retry_after(reply: Answer | Lost) -> float:
    """Seconds that the server asks for (RFC 9110 §10.2.3: a number, or a date)."""
    value = "" if isinstance(reply, Lost) else reply.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _error(reply: Answer | Lost) -> LadingError:
    if isinstance(reply, Answer):
        return error_of(reply)
    done = "; it may have been done" if reply.was_sent else ""
    words = str(reply.error) or type(reply.error).__name__
    return Unreachable(f"Lading cannot be reached: {words}{done}")


def _cause(reply: Answer | Lost) -> Exception | None:
    return reply.error if isinstance(reply, Lost) else None
