"""Consumers of events: named readers whose position the server keeps, over SSE and WebSocket.

What a consumer has done with stands in its own list. It comes back without naming a position, so
what it has seen is what the server thinks that it has not acknowledged; it drops the ids it knows.
"""

import http.client
import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from chaos.client import Client, Unanswered

SILENCE = 20.0  # seconds; a server says something every 15, and a frozen one never does
PAUSE = 0.2  # seconds before a member comes back
ACKNOWLEDGED = 0.3  # one in so many events has its acknowledgement, those before it included
PATIENCE = 60.0  # seconds
TAKEN, OK = 409, 200


class Seen(NamedTuple):
    """One event, as it was streamed for the first time."""

    id: str
    data: dict[str, Any]


class Replaced(Exception):
    """Another member has the name now."""


class Consumer(ABC):
    """One name. Its members are threads; the newest is told the events."""

    def __init__(self, name: str, type_: str, urls: Sequence[str], key: str) -> None:
        self.name, self.type = name, type_
        self.seen: list[Seen] = []
        self.again = 0  #: events that came once more
        self.members = 0  #: that have joined
        self.replaced = 0  #: of them
        self.flaws: list[str] = []
        self._urls, self._key = urls, key
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._joined, self._stopping = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def join(self) -> None:
        """One more member follows under the name; the one before has to go."""
        thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def await_first(self, within: float) -> bool:
        """Whether a member has joined by then: what is published from now on comes."""
        return self._joined.wait(within)

    def end(self) -> None:
        """No member follows any more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(SILENCE + 5)

    def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._follow()
                except (OSError, http.client.HTTPException, WebSocketException, ValueError):
                    time.sleep(PAUSE)
        except Replaced:
            self.replaced += 1
        except Unanswered as error:
            self.flaws.append(f"{self.name} was not answered: {error}")

    @abstractmethod
    def _follow(self) -> None:
        """Joins, and takes what comes until the connection is lost. Replaced."""

    def _begin(self) -> None:
        self.members += 1
        self._joined.set()

    def _take(self, event: dict[str, Any]) -> bool:
        """Whether it shall be acknowledged now."""
        with self._lock:
            if event["id"] in self._known:
                self.again += 1
            else:
                self._known.add(event["id"])
                self.seen.append(Seen(event["id"], event["event"]["data"]))
        return random.random() < ACKNOWLEDGED


class OverSse(Consumer):
    """It acknowledges by requests of their own."""

    def _follow(self) -> None:
        place = urlsplit(random.choice(self._urls)).netloc
        connection = http.client.HTTPConnection(place, timeout=SILENCE)
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "text/event-stream"}
        query = urlencode({"types": self.type, "consumer": self.name})
        client = Client(self._urls, self._key)
        try:
            connection.request("GET", f"/v1/events/stream?{query}", headers=headers)
            response = connection.getresponse()
            if response.status != OK:
                time.sleep(PAUSE)
                return
            self._read(response, client)
        finally:
            client.close()
            connection.close()

    def _read(self, response: http.client.HTTPResponse, client: Client) -> None:
        member = position = ""
        for name, id_, data in _messages(response):
            if self._stopping.is_set() or name == "bye":
                return
            if name == "subscribed":
                member, position = data["member"], data["position"]
                self._begin()
            elif name == "reset":
                self.flaws.append(f"{self.name} was reset: {data}")
            elif name == "taken":
                self._check_refusal(client, member, position)
                raise Replaced
            elif data is not None:
                position = id_
                if self._take(data) and self._acknowledge(client, member, position) == TAKEN:
                    raise Replaced

    def _acknowledge(self, client: Client, member: str, position: str) -> int:
        path, body = f"/v1/consumers/{self.name}/ack", {"position": position, "member": member}
        return client.ask("POST", path, body, patience=PATIENCE).status

    def _check_refusal(self, client: Client, member: str, position: str) -> None:
        status = self._acknowledge(client, member, position)
        if status != TAKEN:
            self.flaws.append(f"a member that was replaced has acknowledged: {status}")


class OverWebSocket(Consumer):
    """It acknowledges by frames."""

    def _follow(self) -> None:
        place = urlsplit(random.choice(self._urls)).netloc
        headers = {"Authorization": f"Bearer {self._key}"}
        options: Any = {"proxy": None, "compression": None, "open_timeout": 5, "close_timeout": 1}
        with connect(
            f"ws://{place}/v1/ws",
            additional_headers=headers,
            subprotocols=["lading.v1"],  # type: ignore[list-item] # a NewType of str
            **options,
        ) as socket:
            asked = {"stream": "events", "filter": {"type": self.type}, "consumer": self.name}
            _say(socket, "subscribe", **asked)
            while not self._stopping.is_set():
                self._hear(socket, json.loads(socket.recv(timeout=SILENCE)))

    def _hear(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "subscribed":
                self._begin()
            case "event":
                if self._take(frame["event"]):
                    _say(socket, "ack", position=frame["position"])
            case "error":
                if frame["problem"]["code"] == "consumer-taken":
                    raise Replaced
                time.sleep(PAUSE)
                raise OSError(frame["problem"]["code"])
            case "reset":
                self.flaws.append(f"{self.name} was reset: {frame}")
            case "bye":
                raise OSError("bye")


def _say(socket: ClientConnection, type_: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": type_, "id": "s", **fields}))


def _messages(response: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    """Event, id and data of each message (WHATWG HTML, 9.2.6), as far as ours are; and comments."""
    name = id_ = data = ""
    while line := response.readline().decode():
        field, _, value = line.rstrip("\n").partition(": ")
        match field:
            case "event":
                name = value
            case "id":
                id_ = value
            case "data":
                data = value
            case _ if not line.strip():
                yield name, id_, json.loads(data) if data else None
                name = data = ""
