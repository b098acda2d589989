"""One open socket: what it reads, what it follows, and how it ends.

Nothing is queued for a reader: each stream has its place, takes the next page when the one before
it was sent, and only one stream of a socket has a page in hand (256 events, 1 MiB). A frame that
cannot be sent for TOO_SLOW ends the socket; until then a reader that is slow gets just the newest
of what progress a page brings.
"""

import asyncio
import json
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from pydantic_core import from_json, to_json
from starlette.websockets import WebSocket, WebSocketDisconnect

from api import websocket as codes
from api.eager import begin
from api.keyring import Principal
from api.members import Member
from api.parts import Parts, acting
from api.problems import Problem
from api.recorded import Recorded
from api.sockets import COMMANDS_AT_ONCE, COMMANDS_PER_SECOND
from api.tail import Marked
from api.wire import Wire, text_frame
from api.ws.coalescing import coalesced
from api.ws.frames import LONGEST_ID, MOST_BYTES
from jobs.feed import Position
from jobs.ids import uuid7

HEARTBEAT = 25  # seconds: a proxy cuts a silent connection after 60
SUBSCRIPTIONS = 100  # of one socket
COMMANDS_IN_FLIGHT = 16  # of one socket; the next frame is read when one was answered
TOO_SLOW = 10.0  # seconds in which a client takes nothing
SLUGGISH = 0.25  # seconds that a frame waits for a client that is behind
SLUGGISH_FOR = 5.0  # seconds after such a frame in which progress is coalesced
FAREWELL = 10.0  # seconds that the last frames may take
MARK_EVERY = 4  # events of the feed have one position, which is half as long as a short event
BACK_AFTER_MS = 1000  # when this server ends and another one takes over
UNLOADED_AFTER_MS = 5000  # when a key has asked for too much
SLOW_READER = 4508
BROKEN = 1011

_log = structlog.get_logger(__name__)


class Ended(Exception):
    """The session sends no more frames."""


class Farewell(NamedTuple):
    """How a socket is closed."""

    code: int
    reason: str
    is_announced: bool = False  #: by a `bye`
    retry_after_ms: int = BACK_AFTER_MS


class Session:
    """A socket that was accepted. To be used on the event loop's thread."""

    __slots__ = (
        *("actor", "commands", "hindrances", "members", "parts", "principal", "slow_until"),
        *("subscriptions", "turn", "wire"),
        *("_ended", "_farewell", "_sending", "_tasks", "_websocket"),
    )

    def __init__(self, websocket: WebSocket, parts: Parts, principal: Principal) -> None:
        self.parts, self.principal = parts, principal
        self.actor = acting(principal, websocket)
        self.turn = asyncio.Lock()  #: held by the stream that reads and sends a page
        self.subscriptions: dict[str, asyncio.Task[None]] = {}
        self.members: dict[str, Member] = {}  #: of subscriptions with a consumer
        self.commands = asyncio.Semaphore(COMMANDS_IN_FLIGHT)
        self.wire = Wire(websocket.scope)
        self.hindrances = 0  #: frames that have to wait, and the end: nothing may be sent at once
        self.slow_until = 0.0  #: of the event loop's clock; 0: it is not slow
        self._websocket = websocket
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._farewell: Farewell | None = None

    @property
    def is_ended(self) -> bool:
        """Whether frames are neither sent nor heeded any more."""
        return self._ended.done()

    def revoke(self) -> None:
        """Its key is not good any more."""
        self.end(Farewell(codes.UNAUTHENTICATED, "key deleted or expired"))

    def drain(self) -> None:
        """The process has been told to end."""
        self.end(Farewell(codes.RESTARTING, "draining", is_announced=True))

    def refuse_more(self, reason: str) -> None:
        """The client asks for more than it may."""
        announced = Farewell(codes.TOO_MANY, reason, is_announced=True)
        self.end(announced._replace(retry_after_ms=UNLOADED_AFTER_MS))

    def end(self, farewell: Farewell | None) -> None:
        """The socket is closed like that soon; None: the client has left."""
        if not self._ended.done():
            self._farewell = farewell
            self.hindrances += 1
            self._ended.set_result(None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """It runs as long as the session; what it cannot handle ends that."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def run(self, read: Coroutine[Any, Any, None]) -> None:
        """Until it is over; `read` takes the client's frames."""
        self.spawn(read)
        self.parts.keepalive.begin(self.wire)
        try:
            with suppress(Ended):
                if self.parts.draining.is_set:
                    self.drain()
                await self.send(self._welcome())
                await self._ended
        finally:
            self.parts.keepalive.end(self.wire)
        followed = [*self.subscriptions]
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._farewell is not None:
            await self._close(self._farewell, followed)

    async def receive(self) -> dict[str, Any]:
        """The next frame of the client. Ended."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self.end(None)
            raise Ended
        text = message.get("text")
        if not isinstance(text, str):
            raise self._bad_frame("frames are text")
        if len(text) > MOST_BYTES or len(text.encode()) > MOST_BYTES:
            raise self._bad_frame(f"frames have {MOST_BYTES} bytes at most")
        try:
            frame = from_json(text, allow_inf_nan=False)
        except ValueError:
            raise self._bad_frame("frames are JSON") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            raise self._bad_frame("frames are JSON objects with a type")
        return frame

    async def send(self, frame: dict[str, Any]) -> None:
        """The frame is on its way. Ended."""
        await self._send(to_json(frame).decode())

    async def send_error(self, frame_id: Any, problem: Problem) -> None:
        """The frame with that id was refused, or its subscription has ended. Ended."""
        known = frame_id if isinstance(frame_id, str) and len(frame_id) <= LONGEST_ID else None
        await self.send({"type": "error", "id": known, "problem": problem.document()})

    async def send_events(self, start: str, events: Sequence[Recorded]) -> None:
        """A job's events are on their way; `start` is how their frames begin. Ended."""
        for event in coalesced(events) if self._is_slow else events:
            await self._send(f"{start}{event.json}}}")

    def send_at_once(self, start: str, events: Sequence[Recorded]) -> int:
        """As many of the events as do not have to wait are on their way: so many."""
        if self.hindrances or self._is_slow:
            return 0
        for number, event in enumerate(events, 1):
            text = f"{start}{event.json}}}"
            if self.wire.write(text):
                continue
            try:
                rest = begin(self.wire.send(text_frame(text)))
            except (OSError, RuntimeError):  # it has left; or the server has just cut it off
                self.end(None)
                return number
            if rest is not None:
                self.hindrances += 1
                self.spawn(self._finish(rest))
                return number
        return len(events)

    async def _finish(self, sending: Awaitable[None]) -> None:
        async with self._sending:
            await self._in_time(sending)

    async def send_feed(self, frame_id: str, marked: Sequence[Marked], epoch: str) -> None:
        """Events of the feed are on their way, some with the position that they lead to. Ended."""
        start = f'{{"type":"event","id":{json.dumps(frame_id)},'
        sent = marked
        if self._is_slow:
            kept = {id(each) for each in coalesced([each.recorded for each in marked])}
            sent = [each for each in marked if id(each.recorded) in kept]
        for number, (event, place) in enumerate(sent):
            mark = ""
            if number % MARK_EVERY == 0 or number == len(sent) - 1:
                mark = f'"position":"{Position(epoch, place).text()}",'
            await self._send(f'{start}{mark}"event":{event.json}}}')

    async def send_published(self, frame_id: str, marked: Sequence[Marked], epoch: str) -> None:
        """Events of the bus are on their way, each with the position that it leads to. Ended."""
        start = f'{{"type":"event","id":{json.dumps(frame_id)},"position":'
        for event, place in marked:
            position = Position(epoch, place).text()
            await self._send(f'{start}"{position}","event":{event.json}}}')

    @property
    def _is_slow(self) -> bool:
        if self.slow_until and asyncio.get_running_loop().time() >= self.slow_until:
            self.slow_until = 0.0
        return self.slow_until > 0

    async def _send(self, text: str) -> None:
        async with self._sending:
            if self.is_ended:
                raise Ended
            try:
                rest = begin(self._websocket.send_text(text))
            except (OSError, WebSocketDisconnect):
                self.end(None)
                raise Ended from None
            if rest is not None:
                self.hindrances += 1
                await self._in_time(rest)

    async def _in_time(self, sending: Awaitable[None]) -> None:
        """A frame that had to wait is on its way; one that had not says nothing of the client.

        It is one of the hindrances, until it is.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(TOO_SLOW):
                await sending
        except TimeoutError:
            self.end(Farewell(SLOW_READER, "slow"))
            raise Ended from None
        except (OSError, WebSocketDisconnect):
            self.end(None)
            raise Ended from None
        finally:
            self.hindrances -= 1
        if (now := loop.time()) - began > SLUGGISH:
            self.slow_until = now + SLUGGISH_FOR

    def _bad_frame(self, reason: str) -> Ended:
        self.end(Farewell(codes.BAD_REQUEST, reason))
        return Ended()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or isinstance(error := task.exception(), Ended | None):
            return
        _log.error("a socket is closed: a part of it has failed", exc_info=error)
        self.end(Farewell(BROKEN, "internal-error"))

    def _welcome(self) -> dict[str, Any]:
        limits = {
            "frame_bytes": MOST_BYTES,
            "connections": self.parts.sockets.most_per_key,
            "subscriptions": SUBSCRIPTIONS,
            "commands_per_second": COMMANDS_PER_SECOND,
            "commands_at_once": COMMANDS_AT_ONCE,
        }
        return {
            "type": "welcome",
            "session": uuid7(),
            "server_time": datetime.now(UTC),
            "heartbeat_seconds": HEARTBEAT,
            "limits": limits,
        }

    async def _close(self, farewell: Farewell, followed: list[str]) -> None:
        last: list[dict[str, Any]] = []
        if farewell.code == SLOW_READER:
            last = [
                {"type": "reset", "id": each, "reason": "slow", "snapshot": None}
                for each in followed
            ]
        if farewell.is_announced:
            wait = farewell.retry_after_ms
            last.append({"type": "bye", "code": farewell.code, "retry_after_ms": wait})
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(FAREWELL):
                for frame in last:
                    await self._websocket.send_text(to_json(frame).decode())
                await self._websocket.close(farewell.code, farewell.reason)
