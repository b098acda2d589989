"""A proxy of somebody else's between a client and Lading: it refuses, breaks and buffers."""

import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx2

from tests.api.relay import Relay

EVENT_STREAM = "text/event-stream"


class Canned(NamedTuple):
    """An answer that Lading has no part in."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Seen(NamedTuple):
    """A request that came by, header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Gateway:
    """Passes requests on, unless told otherwise."""

    upstream: str
    next: deque[Canned] = field(default_factory=deque)  #: answers of its own, before all else
    to_streams: Canned | None = None  #: what it says to requests for event streams
    holds_streams: bool = False  #: collects a stream to its end before it passes anything on
    loses_next: int = 0  #: so many requests are passed on, and their answers thrown away
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def requests(self, method: str) -> list[Seen]:
        return [each for each in self.seen if each.method == method]


@contextmanager
def gateway(upstream: str) -> Iterator[Gateway]:
    """A gateway to that server, on a port of its own."""
    made = Gateway(upstream)
    server = _Server(made)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()  # connections that wait end with their clients


class _Server(ThreadingHTTPServer):
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _gateway(self) -> Gateway:
        assert isinstance(self.server, _Server)
        return self.server.gateway

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        made = self._gateway
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        made.seen.append(Seen(self.command, self.path, headers))
        is_stream = headers.get("accept") == EVENT_STREAM
        if made.next:
            self._answer(made.next.popleft())
        elif is_stream and made.to_streams:
            self._answer(made.to_streams)
        else:
            self._pass_on(headers, body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names are http.server's

    def _pass_on(self, headers: Mapping[str, str], body: bytes) -> None:
        made = self._gateway
        url = f"{made.upstream}{self.path}"
        kept = {name: each for name, each in headers.items() if name != "host"}
        with httpx2.stream(self.command, url, headers=kept, content=body, timeout=60) as answer:
            if not made.holds_streams and EVENT_STREAM in answer.headers.get("content-type", ""):
                self._stream(answer)
                return
            content = answer.read()
        if made.loses_next:
            made.loses_next -= 1
            self.close_connection = True
            return
        dropped = {"transfer-encoding", "content-length", "connection"}
        kept = {name: each for name, each in answer.headers.items() if name not in dropped}
        self._answer(Canned(answer.status_code, kept, content))

    def _stream(self, answer: httpx2.Response) -> None:
        self.send_response(200)
        self.send_header("Content-Type", EVENT_STREAM)
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in answer.iter_raw():
            self.wfile.write(chunk)
        self.close_connection = True

    def _answer(self, canned: Canned) -> None:
        self.send_response(canned.status)
        for name, value in canned.headers.items():
            self.send_header(name, value)
        if canned.status not in {204, 304}:
            self.send_header("Content-Length", str(len(canned.body)))
        self.end_headers()
        self.wfile.write(canned.body)

    def log_message(self, *_: object) -> None:
        pass


class CuttingRelay(Relay):
    """Cuts each connection after as many bytes of answers as `budgets` says; then none."""

    def __init__(self, port: int, budgets: Iterator[int] | None = None) -> None:
        self.budgets = budgets or iter(())
        self.cuts = 0
        super().__init__(port)

    def lead_to(self, port: int) -> None:
        """New connections go there; those that are open are cut."""
        self._upstream = ("127.0.0.1", port)
        self.cut()

    def cut(self) -> None:
        """All that is open is cut now."""
        for each in self._open:
            _shut(each)
        self.cuts += 1

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                try:
                    server = socket.create_connection(self._upstream)
                except OSError:
                    _shut(client)
                    continue
                self._open.append(server)
                for source, target, is_request in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pump,
                        args=(source, target, threading.Event(), is_request),
                        daemon=True,
                    ).start()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        losing: threading.Event,
        is_request: bool,
    ) -> None:
        if is_request:
            super()._pump(source, target, losing, is_request)
            return
        left = next(self.budgets, None)
        with suppress(OSError):
            while data := source.recv(65536):
                data = data if left is None else data[:left]
                target.sendall(data)
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        self.cuts += 1
                        break
        _shut(source)
        _shut(target)


def _shut(open_socket: socket.socket) -> None:
    with suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(port: int, budgets: Iterator[int] | None = None) -> Iterator[CuttingRelay]:
    made = CuttingRelay(port, budgets)
    try:
        yield made
    finally:
        made.close()
