"""A proxy before a server whose connections can be cut: both ends get a reset, in mid-sentence.

The server may have done what it was told and the client never hears of it, which no other way of
ending connections brings about: a killed server answers with its last words or does nothing.
"""

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from dev.ports import LOOPBACK

CHUNK = 65536  # bytes
RESET = struct.pack("ii", 1, 0)  # SO_LINGER, on, for no time: close(2) sends RST (socket(7))


class Line:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = client, server
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def cut(self) -> None:
        """Both ends are reset."""
        for end in self._ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """Both ends are closed, and nobody reads them any more."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)  # wakes who reads it; says nothing to the peer
            end.close()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                target.sendall(chunk)
        self.close()


class Cutter:
    """Listens on `port`, and speaks for the server at `server_port`. A context manager."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lines: list[Line] = []
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="cutter", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> int:
        """All connections are reset; how many there have been since the last time."""
        lines, self._lines = self._lines, []
        for line in lines:
            line.cut()
        return len(lines)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection((LOOPBACK, self._server_port))
                except OSError:
                    client.close()
                else:
                    self._lines.append(Line(client, server))
