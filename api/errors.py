"""How everything that can go wrong becomes a problem: one table for the domain's errors."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from api.edge import REQUEST_ID
from api.problems import Problem
from jobs import errors
from jobs.states import JobState, Move

MOST_FLAWS = 100  # are listed; a batch may have many times as many
RETRY_AFTER = {"Retry-After": "1"}  # seconds

_log = structlog.get_logger(__name__)


def _invalid_transition(error: errors.InvalidTransition) -> Problem:
    return Problem(
        "invalid-transition", str(error), state=error.current, allowed=_allowed(error.current)
    )


def _allowed(state: JobState) -> list[str]:
    """What a client may ask of a job in this state, by the last part of its address."""
    asked = {
        "cancel": (Move.CANCEL, Move.REQUEST_CANCEL),
        "retry": (Move.RETRY,),
        "run-now": (Move.RUN_NOW,),
    }
    return [verb for verb, moves in asked.items() if any(state in move.sources for move in moves)]


def _invalid_submission(error: errors.InvalidSubmission) -> Problem:
    flaws = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in error.flaws]
    return _validation_failed(flaws)


def _position_unknown(error: errors.PositionUnknown) -> Problem:
    return _validation_failed([{"pointer": "#/position", "detail": str(error)}])


def _validation_failed(flaws: Sequence[Mapping[str, str]]) -> Problem:
    first = f"{flaws[0]['pointer']}: {flaws[0]['detail']}"
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    return Problem("validation-failed", f"{first}{more}", errors=flaws[:MOST_FLAWS])


def _retry(code: str) -> Callable[[errors.JobsError], Problem]:
    return lambda error: Problem(code, str(error), headers=RETRY_AFTER)


def _plain(code: str) -> Callable[[errors.JobsError], Problem]:
    return lambda error: Problem(code, str(error))


def _key_reused(error: errors.KeyReused) -> Problem:
    return Problem("idempotency-key-reused", str(error), first_seen_at=error.first_seen_at)


def _count_differs(error: errors.CountDiffers) -> Problem:
    return Problem("count-differs", str(error), count=error.count)


def _unique_conflict(error: errors.UniqueConflict) -> Problem:
    return Problem("unique-conflict", str(error), job_id=error.job_id, unique_key=error.key)


#: Every error of the domain, and the problem that it is.
TABLE: dict[type[errors.JobsError], Callable[[Any], Problem]] = {
    errors.JobNotFound: _plain("job-not-found"),
    errors.FileMissing: _plain("file-not-found"),
    errors.LimitMissing: _plain("limit-not-found"),
    errors.KeyMissing: _plain("key-not-found"),
    errors.WebhookMissing: _plain("webhook-not-found"),
    errors.DeliveryMissing: _plain("delivery-not-found"),
    errors.WebhookOff: _plain("webhook-off"),
    errors.DeliveryPending: _plain("delivery-pending"),
    errors.SecretKeyMissing: _plain("secret-key-missing"),
    errors.EventMissing: _plain("event-not-found"),
    errors.ConsumerMissing: _plain("consumer-not-found"),
    errors.ConsumerTaken: _plain("consumer-taken"),
    errors.ConsumerDeleted: _plain("consumer-deleted"),
    errors.PositionUnknown: _position_unknown,
    errors.TriggerMissing: _plain("trigger-not-found"),
    errors.TriggerInCode: _plain("trigger-in-code"),
    errors.CountDiffers: _count_differs,
    errors.BulkMissing: _plain("bulk-not-found"),
    errors.BulkEnded: _plain("bulk-ended"),
    errors.BulkTooLarge: _plain("bulk-too-large"),
    errors.KeyGone: _plain("unauthenticated"),
    errors.ProjectMissing: _plain("project-not-found"),
    errors.ProjectExists: _plain("project-exists"),
    errors.ScheduleMissing: _plain("schedule-not-found"),
    errors.ScheduleExists: _plain("schedule-exists"),
    errors.ScheduleFromCode: _plain("schedule-from-code"),
    errors.InvalidTransition: _invalid_transition,
    errors.LeaseLost: _plain("lease-lost"),
    errors.InvalidSubmission: _invalid_submission,
    errors.KeyReused: _key_reused,
    errors.KeyInFlight: _retry("idempotency-in-flight"),
    errors.JobDeleted: _plain("job-deleted"),
    errors.UniqueConflict: _unique_conflict,
    errors.BatchNotFound: _plain("batch-not-found"),
    errors.BatchClosed: _plain("batch-closed"),
    errors.DatabaseUnavailable: _retry("database-unavailable"),
    errors.BrokerUnavailable: _retry("broker-unavailable"),
}


def problem_of(error: errors.JobsError) -> Problem:
    """The domain's error as REST and WebSocket report it."""
    return TABLE[type(error)](error)


def add_handlers(app: FastAPI) -> None:
    """Whatever is raised in a request is answered with a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(errors.JobsError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_anything_else)


async def answer(request: Request, error: Problem | errors.JobsError | HTTPException) -> Response:
    """As the handlers answer it, for who does not come to them."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, HTTPException):
        return await _on_http_exception(request, error)
    return await _on_domain_error(request, error)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _on_domain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.JobsError)
    if isinstance(error, errors.DatabaseUnavailable):
        _log.warning("the database does not answer", cause=repr(error.__cause__))
    return problem_of(error).response()


async def _on_anything_else(request: Request, error: Exception) -> Response:
    # The server logs the traceback, with the same request id.
    _log.error("a request failed", method=request.method, path=request.url.path, error=repr(error))
    detail = "The log of the server says more about the request with this id."
    problem = Problem("internal-error", detail)
    # This answer goes round api/edge.py, which has set it on all others.
    problem.headers = {REQUEST_ID: problem.document()["request_id"]}
    return problem.response()


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    for each in found:
        match each:
            case {"loc": ("path", str(name), *_)}:
                if request.method not in _methods_at(request):  # /v1/jobs/batch is no job
                    return _method_not_allowed(request)
                return _unknown(name, request).response()
            case {"type": "json_invalid", "loc": (_, at)}:
                why = each.get("ctx", {}).get("error", "no JSON")
                detail = f"The body is no JSON document: {why}, at character {at}."
                return Problem("bad-request", detail).response()
    return _validation_failed([_flaw_of(each, error.body) for each in found]).response()


def _unknown(parameter: str, request: Request) -> Problem:
    """A malformed id is the id of nothing."""
    noun = parameter.removesuffix("_id")
    return Problem(f"{noun}-not-found", f"no {noun} {request.path_params.get(parameter)}")


def _flaw(location: Sequence[str | int], message: str) -> dict[str, str]:
    """The pointer leads into the body, or into the parameters of the part that `in` names."""
    part, *path = location
    pointer = "/".join(["#", *(str(each).replace("~", "~0").replace("/", "~1") for each in path)])
    flaw = {"pointer": pointer, "detail": message}
    return flaw if part == "body" else {**flaw, "in": str(part)}


def _flaw_of(error: Mapping[str, Any], document: Any) -> dict[str, str]:
    """What Pydantic says of a parameter, or of the document that is the body."""
    part, *path = error["loc"]
    if part == "body":
        path = _within(document, path, is_missing=error["type"] == "missing")
    return _flaw((part, *path), error["msg"].removeprefix("Value error, "))


def _within(document: Any, path: Sequence[str | int], *, is_missing: bool) -> list[str | int]:
    """The path without what Pydantic alone knows, such as the branches of a union."""
    found: list[str | int] = []
    for number, part in enumerate(path, 1):
        is_there = isinstance(document, dict) and part in document
        if is_there or (isinstance(document, list) and part in range(len(document))):
            document = document[part]
            found.append(part)
        elif is_missing and number == len(path):
            found.append(part)
    return found


def parameter_flaw(name: str, message: str, part: str = "query") -> Problem:
    """A parameter of the request does not fit."""
    return _validation_failed([_flaw((part, name), message)])


def body_flaw(pointer: str, message: str) -> Problem:
    """A part of the body does not fit."""
    return _validation_failed([{"pointer": pointer, "detail": message}])


def model_flaws(error: ValidationError, document: Any) -> Problem:
    """The document, which came in another way than as a body, does not fit."""
    return _validation_failed(
        [_flaw_of({**each, "loc": ("body", *each["loc"])}, document) for each in error.errors()]
    )


_CODES = {
    400: "bad-request",
    404: "not-found",
    413: "payload-too-large",
    415: "unsupported-media-type",
}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _method_not_allowed(request)
    if error.status_code not in _CODES:
        return Response(status_code=error.status_code, headers=error.headers)
    headers = dict(error.headers or {})
    return Problem(_CODES[error.status_code], f"{error.detail}.", headers=headers).response()


def _method_not_allowed(request: Request) -> Response:
    """405 with all that the address takes; OPTIONS asks for just that."""
    methods = ", ".join(sorted(_methods_at(request) | {"OPTIONS"}))
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": methods})
    detail = f"{request.method} is not possible here; {methods} are."
    return Problem("method-not-allowed", detail, headers={"Allow": methods}).response()


def _methods_at(request: Request) -> set[str]:
    """Of the routes at this very address; where there is none, of those that match it."""
    path = request.url.path
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route for route in routes if route.path == path] or [
        route for route in routes if route.path_regex.match(path)
    ]
    methods = {method for route in found for method in route.methods or ()}
    return methods | ({"HEAD"} if "GET" in methods else set())
