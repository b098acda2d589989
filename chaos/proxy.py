"""A proxy before the api that keeps some answers back: connections pass as they are."""

import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from dev.ports import LOOPBACK

CHUNK = 65536  # bytes


class SlowAnswers:
    """Each connection goes to one of `urls`; a `share` of them answers `seconds` late."""

    def __init__(
        self, urls: Sequence[str], share: float, seconds: float, chance: random.Random
    ) -> None:
        self._places = [(urlsplit(url).hostname, urlsplit(url).port) for url in urls]
        self._share, self._seconds, self._random = share, seconds, chance
        self._listening = socket.create_server((LOOPBACK, 0))
        self.url = f"http://{LOOPBACK}:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                delay = self._seconds if self._random.random() < self._share else 0.0
                server = socket.create_connection(self._random.choice(self._places))
                _start(client, server, 0.0)
                _start(server, client, delay)


def _start(source: socket.socket, target: socket.socket, delay: float) -> None:
    threading.Thread(target=_relay, args=(source, target, delay), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, delay: float) -> None:
    """What `source` says reaches `target`, its first words after `delay` seconds; then its end."""
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            time.sleep(delay)
            delay = 0.0
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
