"""No request gets further than this without a key, except to the few addresses that need none."""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors
from api.parts import parts_of
from api.problems import Problem
from jobs.errors import JobsError
from jobs.keys import store

KEYLESS = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json", "/asyncapi.json"})
KEYLESS_BELOW = ("/static/", "/docs/")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Authentication:
    """A pure ASGI middleware for HTTP. A WebSocket's own route asks the keyring."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_keyless(scope["path"]):
            keyring = parts_of(HTTPConnection(scope)).keyring
            try:
                principal = await keyring.authenticate(Headers(scope=scope).get("authorization"))
                principal.require(_needed(scope["path"], scope["method"]))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            except JobsError as error:
                await errors.problem_of(error).response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def is_keyless(path: str) -> bool:
    """Whether anybody may go there."""
    return path in KEYLESS or path.startswith(KEYLESS_BELOW)


def _needed(path: str, method: str) -> store.Scope:
    if path == "/metrics":
        return store.Scope.METRICS_READ
    if path == "/v1/keys" or path.startswith("/v1/keys/"):
        return store.Scope.KEYS_MANAGE
    if path == "/v1/ws-tickets":
        return store.Scope.JOBS_READ  # it opens no more than its key does
    return store.Scope.JOBS_READ if method in _READING else store.Scope.JOBS_WRITE
