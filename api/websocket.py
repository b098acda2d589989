"""A job's events over a WebSocket, one JSON Event a frame.

Browsers cannot see a refused handshake: whoever sends an `Origin` is accepted and then closed, with
a code of its own for each reason; programs get the HTTP answer that REST would give.
"""

import asyncio
from http import HTTPStatus

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.follower import Follower
from api.problems import Problem

DONE = 1000
RESTARTING = 1012
TRY_LATER = 1013
BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, TOO_MANY = 4400, 4401, 4403, 4404, 4429
STALLED = 60.0  # seconds in which a client takes nothing; then it is let go

_CLOSE_CODES = {
    HTTPStatus.BAD_REQUEST: BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: FORBIDDEN,
    HTTPStatus.NOT_FOUND: NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY: BAD_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS: TOO_MANY,
    HTTPStatus.SERVICE_UNAVAILABLE: TRY_LATER,
}
_log = structlog.get_logger(__name__)


async def refuse(websocket: WebSocket, problem: Problem, subprotocol: str | None = None) -> None:
    """The client knows why, as far as it can; it needs the `subprotocol` that it asked for."""
    if "origin" not in websocket.headers:
        await websocket.send_denial_response(problem.response())
        return
    try:
        await websocket.accept(subprotocol)
        await websocket.close(_CLOSE_CODES[HTTPStatus(problem.type.status)], problem.type.code)
    except WebSocketDisconnect:
        return


class Listener:
    """The socket of a client that listens to one job (api/sockets.py)."""

    def __init__(self) -> None:
        self.follower: Follower | None = None
        self.is_revoked = False

    def revoke(self) -> None:
        """Its key was deleted."""
        self.is_revoked = True
        if self.follower is not None:
            self.follower.stop()

    def drain(self) -> None:
        """Its follower knows."""


async def send_events(websocket: WebSocket, follower: Follower, listener: Listener) -> None:
    """The client has got all that the follower reads, or has left."""
    listener.follower = follower
    if listener.is_revoked:
        follower.stop()
    leaving = asyncio.create_task(_stop_when_left(websocket, follower))
    try:
        while events := await follower.read():
            for event in events:
                async with asyncio.timeout(STALLED):
                    await websocket.send_text(event.json)
        if not leaving.done():
            await websocket.close(*_farewell(follower, listener))
    except WebSocketDisconnect:
        return
    except TimeoutError:
        _log.info("a client of a WebSocket takes nothing", path=websocket.url.path)
    finally:
        leaving.cancel()


def _farewell(follower: Follower, listener: Listener) -> tuple[int, str]:
    if listener.is_revoked:
        return UNAUTHENTICATED, "key deleted or expired"
    if follower.is_over:
        return DONE, ""
    return (NOT_FOUND, "job-not-found") if follower.is_gone else (RESTARTING, "draining")


async def _stop_when_left(websocket: WebSocket, follower: Follower) -> None:
    """What clients send is dropped here; it says nothing on this socket."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    follower.stop()
