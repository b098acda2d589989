"""Between a client and its server: a connection that breaks at the worst moment."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes on; `lose_reply_to` cuts a connection between a request and its reply."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._trigger: bytes | None = None
        self._stays_away = False
        self._open: list[socket.socket] = []
        self._is_away = False
        self.lost = self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def lose_reply_to(self, words: bytes, *, stay_away: bool = False) -> None:
        """The next request that holds these words is done, and its reply is lost; once.

        With `stay_away` nobody gets through from then on, until `come_back`.
        """
        self._trigger, self._stays_away = words, stay_away

    def come_back(self) -> None:
        self._is_away = False

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self._is_away:
                    self.refused += 1
                    client.close()
                    continue
                server = socket.create_connection(self._upstream)
                self._open += [client, server]
                losing = threading.Event()
                for source, target, is_request in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pump, args=(source, target, losing, is_request), daemon=True
                    ).start()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        losing: threading.Event,
        is_request: bool,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_request and self._trigger is not None and self._trigger in data:
                    self._trigger = None
                    self._is_away = self._stays_away
                    losing.set()
                if not is_request and losing.is_set():
                    self.lost += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay to that port of this machine."""
    made = Relay(port)
    try:
        yield made
    finally:
        made.close()
