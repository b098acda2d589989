"""A receiver of webhooks as they are: it fails, hangs and forgets, and knows what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook, WebhookVerificationError

from dev.ports import LOOPBACK

GONE, NO_CONTENT, BROKEN, UNAUTHORISED = 410, 204, 503, 401
FAILS_ONE_IN, HANGS_ONE_IN = 12, 60  # deliveries, at their first attempt
LONGEST = 30.0  # seconds that a request hangs: longer than a sender waits
GONE_PATH = "/gone"


class Request(NamedTuple):
    """One that came."""

    path: str
    webhook_id: str
    event: tuple[str, str]  #: source and id
    type: str
    status: int  #: of the answer; 0: none was given


class Receiver:
    """Threads serve it; each delivery's first request may be refused or kept without an answer."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}  #: by path
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Receiver"]:
        """It answers, as it likes."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()

    def of(self, path: str) -> list[Request]:
        """What came to that path."""
        with self._lock:
            return [each for each in self.requests if each.path == path]

    def _take(self, path: str, headers: Any, body: bytes) -> int:
        """The status to answer with; 0: none."""
        try:
            Webhook(self.secrets[path]).verify(body, dict(headers.items()))
        except (KeyError, WebhookVerificationError):
            return UNAUTHORISED
        event, webhook_id = json.loads(body), headers["webhook-id"]
        with self._lock:
            is_first = all(each.webhook_id != webhook_id for each in self.requests)
            status = self._status(path, is_first)
            key = (event["source"], event["id"])
            self.requests.append(Request(path, webhook_id, key, event["type"], status))
        return status

    def _status(self, path: str, is_first: bool) -> int:
        if path == GONE_PATH:
            return GONE
        number = len(self.requests) + 1
        if is_first and number % HANGS_ONE_IN == 0:
            return 0
        return BROKEN if is_first and number % FAILS_ONE_IN == 0 else NO_CONTENT

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(self.path, self.headers, body)
                if status == 0:
                    receiver._closing.wait(LONGEST)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                pass

        return Handler
