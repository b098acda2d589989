"""How short frames leave a socket: straight to the transport of uvicorn's connection.

Between an endpoint and the transport lie eight coroutines of Starlette, uvicorn and our own, and a
frame object of websockets. They say what an endpoint may not do and which header an answer gets;
none of it concerns a text on a socket that is open, and each costs a memory access or ten at a
thousand sockets. Whatever is not quite so simple goes the usual way (decision 13).
"""

import struct
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Message, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from api.edge import SEND

_TEXT = 0x81  # the first byte of a whole text frame (RFC 6455 §5.2)
_SHORT, _LONG = 126, 65536  # bytes; from these on the length takes two bytes more, or eight


class Wire:
    """Of one socket that was accepted. For the event loop's thread alone."""

    __slots__ = ("_connection", "send")

    def __init__(self, scope: Scope) -> None:
        #: OSError when the client has left
        self.send: Callable[[Message], Coroutine[Any, Any, None]] = scope[SEND]
        server = getattr(self.send, "__self__", None)
        is_known = type(server) is WebSocketsSansIOProtocol and not server.conn.extensions
        self._connection: WebSocketsSansIOProtocol | None = server if is_known else None

    @property
    def is_direct(self) -> bool:
        """Whether this is a server whose connections we know, without compression."""
        return self._connection is not None

    def write(self, text: str) -> bool:
        """The frame is on its way; False: nothing was done, `send` has to do it."""
        to = self._connection
        if to is None or not to.writable.is_set() or to.close_sent or to.disconnected:
            return False
        if to.conn.state is not State.OPEN:
            return False
        payload = text.encode()
        to.transport.write(frame_head(len(payload)) + payload)
        return True


def frame_head(length: int) -> bytes:
    """What stands before a text of so many bytes in one unmasked frame."""
    if length < _SHORT:
        return bytes((_TEXT, length))
    if length < _LONG:
        return struct.pack("!BBH", _TEXT, 126, length)
    return struct.pack("!BBQ", _TEXT, 127, length)


def text_frame(text: str) -> Message:
    """The same for `send`."""
    return {"type": "websocket.send", "text": text}
