"""What can go wrong between a program and Lading: one tree, below LadingError."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from lading.client.exchange import Answer


class LadingError(Exception):
    """What was asked for did not happen, or nobody knows whether it did."""

    status: int | None = None  #: of the HTTP answer; None: there was none
    code: str | None = None  #: stable, for programs: `job-not-found`, …
    request_id: str | None = None  #: to find the request in the server's log


class NotConfigured(LadingError):
    """Nobody said where Lading is: neither the call, nor LADING_URL, nor `.lading/dev.json`."""


class Unreachable(LadingError):
    """No usable answer came, however patiently it was asked; the request may have been done."""


class StillRunning(LadingError, TimeoutError):
    """The job has not ended within the time that it was waited for."""


class DamagedFile(LadingError):
    """The bytes that came are not those that the server has stored."""


class UnexpectedAnswer(LadingError):
    """Whatever answered, it was not Lading: a proxy's page, a login form, another service."""


class JobFailed(LadingError):
    """The job has ended, and not well. Raised by `Job.check` alone."""


class ProblemError(LadingError):
    """The server has refused, and said why (RFC 9457)."""

    def __init__(self, message: str, document: dict[str, Any]) -> None:
        super().__init__(message)
        self.document = document  #: the whole problem
        self.detail: str = document.get("detail") or message
        self.code = document.get("code")
        self.request_id = document.get("request_id")


class BadRequest(ProblemError):
    """400 and other mistakes of the client: the request cannot be read."""


class Unauthorized(ProblemError):
    """401: a valid API key is needed."""


class Forbidden(ProblemError):
    """403: the API key does not allow this."""


class NotFound(ProblemError):
    """404: there is no such job, file or kind."""


class Conflict(ProblemError):
    """409: it does not go together with how things are."""


class InvalidTransition(Conflict):
    """409: the job's state does not allow this; `document["state"]` is it."""


class JobDeleted(ProblemError):
    """410: the job that was made with this idempotency key has been deleted."""


class TooLarge(ProblemError):
    """413: the limit stands in `detail`."""


class Flaw(NamedTuple):
    """One thing that is wrong with a request."""

    pointer: str  #: a JSON pointer as a URI fragment: `#/args/to`
    detail: str


class ValidationFailed(ProblemError):
    """422: the request does not fit; `errors` says where."""

    @property
    def errors(self) -> Sequence[Flaw]:
        """Each flaw that the server has named."""
        return [
            Flaw(str(each.get("pointer", "#")), str(each.get("detail", "")))
            for each in self.document.get("errors") or ()
        ]


class KeyReused(ProblemError):
    """422: the idempotency key was used for another request."""


class TooManyRequests(ProblemError):
    """429: slower."""


class ServerError(ProblemError):
    """500: the server's log says more about `request_id`."""


class Unavailable(ServerError, Unreachable):
    """502, 503, 504, for longer than it was tried."""


_BY_CODE: dict[str, type[ProblemError]] = {
    "invalid-transition": InvalidTransition,
    "idempotency-key-reused": KeyReused,
}
_BY_STATUS: dict[int, type[ProblemError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: JobDeleted,
    413: TooLarge,
    422: ValidationFailed,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(answer: Answer) -> LadingError:
    """The error that an answer which is no success stands for."""
    document = problem_in(answer)
    if document is None and answer.status not in _BY_STATUS:
        error: LadingError = UnexpectedAnswer(
            f"an answer that is not Lading's: {answer.status}, {answer.media_type or 'no type'}"
        )
    else:
        phrase = _phrase(answer.status)
        found = document or {"detail": f"{answer.status} {phrase}"}
        error = _class_of(answer.status, found)(str(found.get("detail") or phrase), found)
    error.status = answer.status
    error.request_id = error.request_id or answer.headers.get("x-request-id")
    return error


def problem_in(answer: Answer) -> dict[str, Any] | None:
    """The problem document, if Lading wrote this answer."""
    if answer.media_type != "application/problem+json":
        return None
    try:
        document = json.loads(answer.body)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "code" in document else None


def _class_of(status: int, document: dict[str, Any]) -> type[ProblemError]:
    found = _BY_CODE.get(document.get("code", "")) or _BY_STATUS.get(status)
    if found is None:
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        found = ServerError if is_ours else BadRequest
    return found


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an unknown status"
