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
BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND = 4400, 4401, 4403, 4404
STALLED = 60.0  # seconds in which a client takes nothing; then it is let go

_CLOSE_CODES = {
    HTTPStatus.BAD_REQUEST: BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: FORBIDDEN,
    HTTPStatus.NOT_FOUND: NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY: BAD_REQUEST,
    HTTPStatus.SERVICE_UNAVAILABLE: TRY_LATER,
}
_log = structlog.get_logger(__name__)


async def refuse(websocket: WebSocket, problem: Problem) -> None:
    """The client knows why, as far as it can."""
    if "origin" not in websocket.headers:
        await websocket.send_denial_response(problem.response())
        return
    try:
        await websocket.accept()
        await websocket.close(_CLOSE_CODES[HTTPStatus(problem.type.status)], problem.type.code)
    except WebSocketDisconnect:
        return


async def send_events(websocket: WebSocket, follower: Follower) -> None:
    """The client has got all that the follower reads, or has left."""
    leaving = asyncio.create_task(_stop_when_left(websocket, follower))
    try:
        while events := await follower.read():
            for event in events:
                async with asyncio.timeout(STALLED):
                    await websocket.send_text(event.json)
        if not leaving.done():
            await websocket.close(*_farewell(follower))
    except WebSocketDisconnect:
        return
    except TimeoutError:
        _log.info("a client of a WebSocket takes nothing", path=websocket.url.path)
    finally:
        leaving.cancel()


def _farewell(follower: Follower) -> tuple[int, str]:
    if follower.is_over:
        return DONE, ""
    return (NOT_FOUND, "job-not-found") if follower.is_gone else (RESTARTING, "draining")


async def _stop_when_left(websocket: WebSocket, follower: Follower) -> None:
    """What clients send is dropped here; it says nothing on this socket."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    follower.stop()
