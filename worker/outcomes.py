"""What an attempt came to: the handler's return or raise, turned into one value to report."""

import random
import traceback
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs import documents
from jobs.attempts import Cause, Error, Outcome
from jobs.lifecycle import Claim
from jobs.submissions import flaws
from lading.authoring import Kind
from lading.outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry
from worker.link import Stop

MAX_RESULT_BYTES = 1024 * 1024  # larger belongs into a file
MAX_MESSAGE = 4_000  # characters of an error; two pages
MAX_TRACEBACK = 16_000  # characters; its end counts
_OWN = ("worker", "asyncio", "concurrent")  # packages whose frames lead to the handler's


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt's end. Which fields are set follows from the outcome."""

    outcome: Outcome
    result: Any = None
    size: int = 0  #: bytes of the result's JSON
    error: Error | None = None
    delay: timedelta = timedelta()  #: until the next attempt
    reason: str = ""


def returned(kind: Kind, value: Any) -> Ended:
    """The handler returned this. Raises what Pydantic raises when it is no JSON."""
    result = kind.result_adapter.dump_python(value, mode="json")
    try:
        text = documents.encode(result)
    except documents.NotStorable:
        result = documents.storable(result)
        text = documents.encode(result)
    size = len(text.encode())
    if size > MAX_RESULT_BYTES:
        raise Fail(
            f"the result has {size} bytes of JSON, more than {MAX_RESULT_BYTES}: put it into a file"
        )
    return Ended(Outcome.SUCCEEDED, result=result, size=size)


def raised(claim: Claim, kind: Kind, error: BaseException, stop: Stop | None) -> Ended:
    """The handler raised `error`, after it was told to `stop` for that reason, if it was."""
    if isinstance(error, Cancel):
        return Ended(Outcome.CANCELLED, reason=_text(error.reason))
    if isinstance(error, Fail):
        return Ended(Outcome.FAILED, error=Error(Cause.FAIL, "Fail", _text(error.reason)))
    if isinstance(error, Retry):
        return failed(claim, kind, described(error), after=error.after)
    return _stopped(claim, kind, error, stop)


def _stopped(claim: Claim, kind: Kind, error: BaseException, stop: Stop | None) -> Ended:
    if stop is Stop.TIMEOUT or (stop is None and isinstance(error, JobTimeout)):
        return failed(claim, kind, overrun(claim.timeout_seconds))
    if stop is not None:
        return Ended(_STOPPED[stop], reason=stop.value)
    if isinstance(error, JobCancelled):
        return Ended(Outcome.CANCELLED, reason="cancelled by its handler")
    return failed(claim, kind, described(error))


_STOPPED = {
    Stop.CANCELLED: Outcome.CANCELLED,
    Stop.LOST: Outcome.LEASE_LOST,
    Stop.INTERRUPTED: Outcome.INTERRUPTED,
}


def overrun(limit: float | None) -> Error:
    """The error of an attempt that ran into its limit of so many seconds."""
    message = "its time is over" if limit is None else f"it took longer than {limit:g} s"
    return Error(Cause.TIMEOUT, "JobTimeout", message)


def refused(error: ValidationError, model: type[BaseModel]) -> Ended:
    """The stored args do not fit the kind any more; their values are not repeated."""
    found = "; ".join(f"{flaw.pointer}: {flaw.detail}" for flaw in flaws(error, "#/args"))
    message = _text(f"the args do not fit {model.__name__}: {found}")
    return Ended(Outcome.FAILED, error=Error(Cause.INVALID_ARGS, "ValidationError", message))


def failed(claim: Claim, kind: Kind, error: Error, after: timedelta | None = None) -> Ended:
    """One more failure: another attempt `after` a while, or by the kind's policy, or the end."""
    delay = kind.retry.delay(claim.failures + 1, claim.max_attempts, random.Random())
    if delay is None:
        return Ended(Outcome.FAILED, error=error)
    return Ended(Outcome.RETRIED, error=error, delay=delay if after is None else after)


def unstorable(ended: Ended, error: Exception) -> Ended:
    """PostgreSQL has refused this end, and says why."""
    said = str(getattr(error, "orig", None) or error)
    message = _text(f"its outcome, {ended.outcome}, cannot be stored: {said}")
    return Ended(Outcome.FAILED, error=Error(Cause.EXCEPTION, type(error).__qualname__, message))


def described(error: BaseException) -> Error:
    """The exception with the handler's own frames."""
    lines = traceback.TracebackException(
        type(error), error, _handlers(error.__traceback__), compact=True
    ).format()
    text = documents.storable_text("".join(lines))
    if len(text) > MAX_TRACEBACK:
        text = f"…{text[-MAX_TRACEBACK:]}"
    return Error(Cause.EXCEPTION, type(error).__qualname__, _text(str(error)), text)


def _handlers(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that lead to the handler."""
    while frames is not None and _is_own(frames):
        frames = frames.tb_next
    return frames


def _is_own(frames: TracebackType) -> bool:
    name = str(frames.tb_frame.f_globals.get("__name__", ""))
    return name.split(".", 1)[0] in _OWN


def _text(message: str) -> str:
    message = documents.storable_text(message)
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
