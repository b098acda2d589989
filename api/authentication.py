"""No request gets further than this without a key, except to the few addresses that need none."""

from collections.abc import Mapping

from starlette import types
from starlette.datastructures import MutableHeaders

from api import errors
from api.edge import find_header
from api.parts import parts_in
from api.problems import Problem
from jobs.errors import JobsError
from jobs.keys.scopes import Scope

KEYLESS = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json", "/asyncapi.json"})
KEYLESS_BELOW = ("/static/", "/docs/")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Authentication:
    """A pure ASGI middleware for HTTP. A WebSocket's own route asks the keyring."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        if scope["type"] == "http" and not is_keyless(scope["path"]):
            parts = parts_in(scope)
            try:
                authorization = find_header(scope, b"authorization")
                principal = await parts.keyring.authenticate(authorization)
                if (taken := parts.rates.take(principal)) is not None:
                    send = _with_headers(send, taken.headers)
                    if not taken.is_granted:
                        raise taken.refusal()
                principal.require(needed_scope(scope["path"], scope["method"]))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            except JobsError as error:
                await errors.problem_of(error).response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def _with_headers(send: types.Send, headers: Mapping[str, str]) -> types.Send:
    async def send_with_headers(message: types.Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


def is_keyless(path: str) -> bool:
    """Whether anybody may go there."""
    return path in KEYLESS or path.startswith(KEYLESS_BELOW)


#: Scopes for reading and for writing, by the first part of an address below /v1.
SCOPES: Mapping[str, tuple[Scope, Scope]] = {
    "jobs": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "batches": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "files": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "workers": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "ws-tickets": (Scope.JOBS_READ, Scope.JOBS_READ),  # a ticket opens no more than its key
    "events": (Scope.EVENTS_READ, Scope.EVENTS_WRITE),
    "consumers": (Scope.EVENTS_READ, Scope.EVENTS_CONSUME),
    "triggers": (Scope.JOBS_READ, Scope.TRIGGERS_WRITE),
    "webhooks": (Scope.JOBS_READ, Scope.WEBHOOKS_WRITE),
    "schedules": (Scope.JOBS_READ, Scope.SCHEDULES_WRITE),
    "queues": (Scope.JOBS_READ, Scope.QUEUES_WRITE),
    "kinds": (Scope.JOBS_READ, Scope.QUEUES_WRITE),
    "concurrency": (Scope.JOBS_READ, Scope.QUEUES_WRITE),
    "limits": (Scope.JOBS_READ, Scope.QUEUES_WRITE),
    "rates": (Scope.JOBS_READ, Scope.QUEUES_WRITE),
    "bulk": (Scope.JOBS_READ, Scope.BULK_WRITE),
    "keys": (Scope.KEYS_MANAGE, Scope.KEYS_MANAGE),
    "projects": (Scope.JOBS_READ, Scope.ADMIN),
    "audit": (Scope.AUDIT_READ, Scope.ADMIN),
}
_ELSEWHERE = (Scope.JOBS_READ, Scope.JOBS_WRITE)  # there is nothing, which is told to keys only


def needed_scope(path: str, method: str) -> Scope:
    """What a key must have to be let in there."""
    if path == "/metrics":
        return Scope.METRICS_READ
    reading, writing = SCOPES.get(path.removeprefix("/v1/").partition("/")[0], _ELSEWHERE)
    return reading if method in _READING else writing
