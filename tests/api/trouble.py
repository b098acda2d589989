"""A path between clients and a server that is cut, stalled and slow, when it is told to be."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset, and what was on its way is lost


class Trouble:
    """Passes bytes on to a port that may change; `connections` counts who came through."""

    def __init__(self) -> None:
        self.connections = self.cuts = 0
        self._upstream: int | None = None
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._budgets: list[int] = []
        self._flows_at = self._delay = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def lead_to(self, port: int | None) -> None:
        """New connections go there; None: they are closed at once."""
        self._upstream = port

    def cut(self, *, is_reset: bool = False) -> None:
        """What is open ends now, in the middle of whatever it is."""
        with self._lock:
            cut, self._open = self._open, set()
        self.cuts += len(cut)
        for each in cut:
            _end(each, is_reset=is_reset)

    def cut_after(self, answers: int) -> None:
        """The next connection is cut after so many bytes of answers, once."""
        self._budgets.append(answers)

    def stall(self, seconds: float) -> None:
        """Nothing passes, either way, for so long."""
        self._flows_at = time.monotonic() + seconds

    def delay(self, seconds: float) -> None:
        """From now on whatever passes takes so long."""
        self._delay = seconds

    def calm(self) -> None:
        """Nothing is in the way of what comes next."""
        self._budgets.clear()
        self._flows_at = self._delay = 0.0

    def close(self) -> None:
        self.lead_to(None)
        self.cut()
        _end(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        port = self._upstream
        try:
            if port is None:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            _end(client)
            return
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
            self.connections += 1
            budget = self._budgets.pop(0) if self._budgets else None
        there = threading.Thread(target=self._pump, args=(client, server, None), daemon=True)
        there.start()
        self._pump(server, client, budget)
        there.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket, budget: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while (wait := self._flows_at - time.monotonic()) > 0:
                    time.sleep(min(wait, 0.05))
                if self._delay:
                    time.sleep(self._delay)
                if budget is not None:
                    data, budget = data[:budget], budget - len(data)
                target.sendall(data)
                if budget is not None and budget <= 0:
                    self.cuts += 1
                    break
        _end(source)
        _end(target)


def _end(open_socket: socket.socket, *, is_reset: bool = False) -> None:
    """Its threads see the end, and close it: then a reset goes out, or an end in good order did."""
    with suppress(OSError):
        if is_reset:
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        lingers = open_socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET))
        open_socket.shutdown(socket.SHUT_RD if lingers == _RESET else socket.SHUT_RDWR)


@contextmanager
def trouble() -> Iterator[Trouble]:
    """It leads nowhere yet."""
    made = Trouble()
    try:
        yield made
    finally:
        made.close()
