"""A real web server on 127.0.0.1 that answers with the very bytes it is given."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import parse_headers
from io import BufferedIOBase, BytesIO


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | Callable[[Asked], bytes]


@dataclass
class Website:
    """What it says, by path, and what it was asked."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    silence: threading.Event = field(default_factory=threading.Event)  #: ends what hangs

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def hang(self, _asked: Asked) -> bytes:
        """An answer that does not come before the test is over."""
        self.silence.wait(30)
        return b""


def reply(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; `retry_after="5"` is the header Retry-After."""
    fields = {"Content-Length": str(len(body)), "Connection": "close"}
    fields |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[Website]:
    """It listens until the end of the block, in threads of its own."""
    site = Website()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = _read(self.rfile)
            site.asked.append(asked)
            answer = site.answers.get(asked.target, reply("404 Not Found", b"no such page"))
            self.wfile.write(answer if isinstance(answer, bytes) else answer(asked))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            return (tls.wrap_socket(connection, server_side=True) if tls else connection), address

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that went away is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            site.silence.set()
            server.shutdown()
            thread.join(30)


def _read(stream: BufferedIOBase) -> Asked:
    method, target, _ = stream.readline().decode("ascii").split(" ", 2)
    headers = {name.lower(): value for name, value in parse_headers(BytesIO(_head(stream))).items()}
    return Asked(method, target, headers, stream.read(int(headers.get("content-length", "0"))))


def _head(stream: BufferedIOBase) -> bytes:
    lines = list(iter(stream.readline, b"\r\n"))
    return b"".join(lines) + b"\r\n"
