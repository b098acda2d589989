"""How short frames leave a socket: straight to the transport of uvicorn's connection.

Between an endpoint and the transport lie eight coroutines of Starlette, uvicorn and our own, and a
frame object of websockets. They say what an endpoint may not do and which header an answer gets;
none of it concerns a text on a socket that is open, and each costs a memory access or ten at a
thousand sockets. Whatever is not quite so simple goes the usual way (decision 13).

Pings go the same way, with an event where there is one (api/keepalive.py).
"""

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Message, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from api.edge import SEND
from api.pongs import Pongs

PING_EVERY = 20  # seconds: uvicorn's default; who sets another interval has uvicorn's own pings
_TEXT, _PING = 0x81, 0x89  # the first byte of a whole text frame, and of a ping (RFC 6455 §5.2)
_SHORT, _LONG = 126, 65536  # bytes; from these on the length takes two bytes more, or eight
_MIDDLE_HEAD, _LONG_HEAD = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack
_USUAL = 512  # bytes; most events are shorter
_HEADS = [_MIDDLE_HEAD(_TEXT, 126, length) for length in range(_USUAL)]


class Wire:
    """Of one socket that was accepted. For the event loop's thread alone."""

    __slots__ = ("_connection", "_ping", "_transport", "send")

    def __init__(self, scope: Scope) -> None:
        #: OSError when the client has left
        self.send: Callable[[Message], Coroutine[Any, Any, None]] = scope[SEND]
        server = getattr(self.send, "__self__", None)
        is_known = type(server) is WebSocketsSansIOProtocol and not server.conn.extensions
        self._connection: WebSocketsSansIOProtocol | None = server if is_known else None
        self._transport: asyncio.Transport | None = None  # once the handshake is over
        self._ping: bytes | None = None  # that goes out with the next frame

    @property
    def is_direct(self) -> bool:
        """Whether this is a server whose connections we know, without compression."""
        return self._connection is not None

    def write(self, text: str) -> bool:
        """The frame is on its way; False: nothing was done, `send` has to do it."""
        return self.write_text(text.encode())

    def write_text(self, payload: bytes) -> bool:
        """The same for a text that is UTF-8 already."""
        to, transport = self._connection, self._transport or self._opened()
        if to is None or transport is None or to.close_sent:
            return False
        # What is there to be sent is asked where `write` looks, too, not in the server's Event.
        if transport.is_closing() or transport.get_write_buffer_size():
            return False
        frame = frame_head(len(payload)) + payload
        if self._ping is not None:
            frame += self._take_ping(to, self._ping)
        transport.write(frame)
        return True

    def _opened(self) -> asyncio.Transport | None:
        to = self._connection
        if to is not None and to.handshake_complete:
            self._transport = to.transport
        return self._transport

    def take_over_pings(self) -> bool:
        """The server pings no more; False: it goes on, in its own way."""
        to = self._connection
        if to is None or to.ping_interval != PING_EVERY or to.ping_timeout is None:
            return False
        to.stop_keepalive()
        Pongs(to)
        return True

    def want_ping(self, payload: bytes) -> None:
        """The next frame brings a ping. Who has not answered the one before is cut off.

        For who has taken pings over, as `ping_now`.
        """
        to = self._connection
        assert to is not None
        if to.pending_ping_payload is None:
            self._ping = payload
        else:
            to.keepalive_timeout()

    def ping_now(self) -> None:
        """If no frame has brought the ping that was wanted, it goes alone."""
        to = self._connection
        if to is None or self._ping is None or to.close_sent or to.transport.is_closing():
            return
        to.transport.write(self._take_ping(to, self._ping))

    def _take_ping(self, to: WebSocketsSansIOProtocol, payload: bytes) -> bytes:
        self._ping, to.pending_ping_payload = None, payload
        return bytes((_PING, len(payload))) + payload


def frame_head(length: int) -> bytes:
    """What stands before a text of so many bytes in one unmasked frame."""
    if length < _SHORT:
        return bytes((_TEXT, length))
    if length < _USUAL:
        return _HEADS[length]
    if length < _LONG:
        return _MIDDLE_HEAD(_TEXT, 126, length)
    return _LONG_HEAD(_TEXT, 127, length)


def text_frame(text: str) -> Message:
    """The same for `send`."""
    return {"type": "websocket.send", "text": text}
