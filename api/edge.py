"""What every request passes first: an id, a limit for its body, and HEAD answered as GET."""

import re

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from api.problems import Problem
from jobs.ids import uuid7

REQUEST_ID = "X-Request-ID"
_REQUEST_ID = REQUEST_ID.lower().encode()
SEND = "lading.send"  # in a WebSocket's scope: the server's own `send`, for frames
MAX_BODY_BYTES = 1024 * 1024
FORM_BYTES = 64 * 1024  # around a file in a form: boundaries and headers
FILES_PATH = "/v1/files"  # the one address that takes more
_SANE = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")


class Edge:
    """A pure ASGI middleware, so that streams and WebSockets pass it untouched."""

    def __init__(self, app: ASGIApp, max_file_bytes: int) -> None:
        self._app = app
        self._max_form_bytes = max_file_bytes + FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = find_header(scope, _REQUEST_ID) or ""
        request_id = given if _SANE.fullmatch(given) else str(uuid7())
        bind_contextvars(request_id=request_id)
        if scope["type"] == "websocket":
            scope[SEND] = send
        send = _with_header(send, _REQUEST_ID, request_id.encode())
        if scope["type"] == "http":
            limit = self._max_form_bytes if scope["path"] == FILES_PATH else MAX_BODY_BYTES
            length = find_header(scope, b"content-length") or ""
            if length.isdecimal() and int(length) > limit:
                await _too_large(limit).response()(scope, receive, send)
                return
            receive = _limited(receive, limit)
            if scope["method"] == "HEAD":
                await _head(self._app, scope, receive, send)
                return
        await self._app(scope, receive, send)


def find_header(scope: Scope, name: bytes) -> str | None:
    """The first of that name, in small letters. Starlette's Headers take ten times as long."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


def _with_header(send: Send, name: bytes, value: bytes) -> Send:
    """One that no answer has by itself."""

    async def send_with_header(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            message["headers"] = [*message.get("headers", ()), (name, value)]
        await send(message)

    return send_with_header


def _limited(receive: Receive, limit: int) -> Receive:
    """For bodies that come in chunks and do not say how long they are."""
    left = limit

    async def receive_within_limit() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _too_large(limit).detail.removesuffix("."))
        return message

    return receive_within_limit


def _too_large(limit: int) -> Problem:
    return Problem("payload-too-large", f"The body is longer than {limit} bytes.")


async def _head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """GET's status and headers; what would make the body is cancelled once they are known."""
    with anyio.CancelScope() as cancelling:

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})
                cancelling.cancel()

        await app({**scope, "method": "GET"}, receive, send_start)
