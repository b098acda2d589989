"""Answers to pings, known by themselves.

A thousand sockets send fifty of them a second. Through uvicorn and websockets each costs a parser's
turn and half a dozen objects, all of them cold, ten times what is done here.
"""

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PAYLOAD = 4  # bytes of a ping of ours
_LENGTH = 2 + 4 + PAYLOAD  # of its answer: a head, the mask, and what was pinged (RFC 6455 §5.3)
_HEAD = bytes((0x8A, 0x80 | PAYLOAD))


class Pongs(asyncio.Protocol):
    """Hears what comes in before the server's connection does, which gets all else.

    An answer is one that comes alone, and says what was pinged: four random bytes. That the rest of
    another frame looks like that is once in 2**48 such rests; its socket would be closed, as for a
    bad frame.
    """

    __slots__ = ("_to",)

    def __init__(self, to: WebSocketsSansIOProtocol) -> None:
        self._to = to
        to.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        to = self._to
        if len(data) == _LENGTH and data[:2] == _HEAD:
            mask, masked = int.from_bytes(data[2:6], "big"), int.from_bytes(data[6:], "big")
            if (mask ^ masked).to_bytes(PAYLOAD, "big") == to.pending_ping_payload:
                to.pending_ping_payload = None
                return
        to.data_received(data)

    def eof_received(self) -> None:
        """Of asyncio.Protocol."""
        self._to.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._to.connection_lost(exc)

    def pause_writing(self) -> None:
        """Of asyncio.Protocol."""
        self._to.pause_writing()

    def resume_writing(self) -> None:
        """Of asyncio.Protocol."""
        self._to.resume_writing()
