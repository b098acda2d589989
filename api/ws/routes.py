"""The socket's own loop: one frame of the client after the other."""

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette import types
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from api.errors import model_flaws, problem_of
from api.parts import parts_of
from api.problems import Problem
from api.websocket import refuse
from api.ws.commands import answer
from api.ws.events import acknowledge
from api.ws.following import follow
from api.ws.frames import (
    SUBPROTOCOL,
    Acknowledge,
    Command,
    Ping,
    SubscribeEvents,
    SubscribeJob,
    SubscribeJobs,
    Unsubscribe,
)
from api.ws.handshake import authenticate
from api.ws.session import SUBSCRIPTIONS, Session
from jobs.errors import JobsError
from jobs.keys.scopes import Scope

router = APIRouter()

_Subscribe = SubscribeJob | SubscribeJobs | SubscribeEvents
_Frame = _Subscribe | Acknowledge | Unsubscribe | Command | Ping


class Endpoint:
    """Many streams and commands on one socket.

    An ASGI application, which holds a quarter less memory a socket than a function for FastAPI.
    """

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        websocket = WebSocket(scope, receive, send)
        parts = parts_of(websocket)
        try:
            principal = await authenticate(websocket, parts)
            session = Session(websocket, parts, principal)
            with parts.sockets.opened(principal, session):
                await websocket.accept(SUBPROTOCOL)
                await session.run(_serve(session))
        except Problem as problem:
            await _refuse(websocket, problem)
        except JobsError as error:
            await _refuse(websocket, problem_of(error))


router.routes.append(WebSocketRoute("/v1/ws", Endpoint()))


async def _refuse(websocket: WebSocket, problem: Problem) -> None:
    is_offered = SUBPROTOCOL in websocket.scope["subprotocols"]
    await refuse(websocket, problem, SUBPROTOCOL if is_offered else None)


async def _serve(session: Session) -> None:
    while True:
        received = await session.receive()
        try:
            await _take(session, _read(received))
        except Problem as problem:
            await session.send_error(received.get("id"), problem)
        except JobsError as error:
            await session.send_error(received.get("id"), problem_of(error))


def _read(received: dict[str, Any]) -> _Frame:
    model: type[_Frame]
    match received:
        case {"type": "subscribe", "stream": "jobs"}:
            model = SubscribeJobs
        case {"type": "subscribe", "stream": "events"}:
            model = SubscribeEvents
        case {"type": "subscribe"}:
            model = SubscribeJob
        case {"type": "ack"}:
            model = Acknowledge
        case {"type": "unsubscribe"}:
            model = Unsubscribe
        case {"type": "command"}:
            model = Command
        case {"type": "ping"}:
            model = Ping
        case _:
            raise Problem("bad-request", "There is no such type of frame.")
    try:
        return model.model_validate(received)
    except ValidationError as error:
        raise model_flaws(error, received) from None


async def _take(session: Session, frame: _Frame) -> None:
    match frame:
        case Ping():
            await session.send({"type": "pong", "t": frame.t})
        case Unsubscribe():
            session.members.pop(frame.id, None)
            if (task := session.subscriptions.pop(frame.id, None)) is not None:
                task.cancel()
        case Acknowledge():
            await acknowledge(session, frame)
        case Command():
            await _command(session, frame)
        case _:
            await _subscribe(session, frame)


async def _subscribe(session: Session, frame: _Subscribe) -> None:
    is_of_events = isinstance(frame, SubscribeEvents)
    session.principal.require(Scope.EVENTS_READ if is_of_events else Scope.JOBS_READ)
    if frame.id in session.subscriptions:
        raise Problem("subscription-exists", f"There is a subscription {frame.id!r} already.")
    if len(session.subscriptions) >= SUBSCRIPTIONS:
        problem = Problem("rate-limited", f"A socket has {SUBSCRIPTIONS} subscriptions at most.")
        await session.send_error(frame.id, problem)
        session.refuse_more("too many subscriptions")
        return
    session.members.pop(frame.id, None)
    session.subscriptions[frame.id] = session.spawn(follow(session, frame))


async def _command(session: Session, frame: Command) -> None:
    if not session.parts.sockets.take_command(session.principal):
        detail = "This key has sent more commands than it may."
        await session.send_error(frame.id, Problem("rate-limited", detail))
        session.refuse_more("too many commands")
        return
    if (taken := session.parts.rates.take(session.principal)) and not taken.is_granted:
        await session.send_error(frame.id, taken.refusal())
        return
    await session.commands.acquire()
    task = session.spawn(answer(session, frame))
    task.add_done_callback(lambda _: session.commands.release())
