"""Readers that follow single jobs to their end, over SSE and WebSocket, and resume when cut."""

import http.client
import json
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from chaos.book import Entry

FINAL = frozenset({"succeeded", "failed", "cancelled"})
SILENCE = 20.0  # seconds; a server says something every 15, and a frozen one never does
PAUSE = 0.2  # seconds before a reader comes back


class Followers:
    """Threads that each follow one job after the other."""

    def __init__(self, urls: Sequence[str], key: str, count: int) -> None:
        self._places = [urlsplit(url).netloc for url in urls]
        self._headers = {"Authorization": f"Bearer {key}"}
        self._waiting: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._give_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name="follower", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def follow(self, entry: Entry) -> None:
        """Somebody will."""
        entry.followed = []
        self._waiting.put(entry)

    def close(self, within: float) -> None:
        """All streams have ended, or are given up after so many seconds: those have a fault."""
        for _ in self._threads:
            self._waiting.put(None)
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._give_up.set()
        for thread in self._threads:
            thread.join(SILENCE + 5)

    def _work(self, number: int) -> None:
        streams = [self._over_sse, self._over_websocket]
        while (entry := self._waiting.get()) is not None:
            stream = streams[number % 2]
            while not _is_over(entry) and entry.fault is None:
                if self._give_up.is_set():
                    entry.fault = f"its stream did not end: {_seqs(entry)}"
                    break
                self._take(entry, stream(entry, _last(entry)))
            number += 1

    def _take(self, entry: Entry, events: Iterator[dict[str, Any]]) -> None:
        """What comes is written down, until the stream ends or is cut."""
        assert entry.followed is not None
        try:
            for event in events:
                last = _last(entry)
                if _is_over(entry):
                    entry.fault = f"its stream went on after its end: {_seqs(entry)}"
                elif event["seq"] > last + 1:
                    entry.fault = f"its stream has a gap: {event['seq']} came after {last}"
                elif event["seq"] == last + 1:
                    entry.followed.append(event)
        except (OSError, http.client.HTTPException, WebSocketException, ValueError):
            time.sleep(PAUSE)

    def _over_sse(self, entry: Entry, after: int) -> Iterator[dict[str, Any]]:
        connection = http.client.HTTPConnection(self._place(), timeout=SILENCE)
        try:
            headers = {**self._headers, "Accept": "text/event-stream", "Last-Event-ID": str(after)}
            connection.request("GET", f"/v1/jobs/{entry.id}/events", headers=headers)
            response = connection.getresponse()
            if response.status == http.client.NO_CONTENT:
                entry.fault = f"nothing was left of its stream after {after}, which was not its end"
                return
            if response.status != http.client.OK:
                _refused(entry, response.status)
                return
            yield from _sent(response)
        finally:
            connection.close()

    def _over_websocket(self, entry: Entry, after: int) -> Iterator[dict[str, Any]]:
        url = f"ws://{self._place()}/v1/jobs/{entry.id}/ws?after={after}"
        options: Any = {"proxy": None, "compression": None, "open_timeout": 5, "close_timeout": 1}
        with connect(url, additional_headers=self._headers, **options) as socket:
            while True:
                try:
                    yield json.loads(socket.recv(timeout=SILENCE))
                except TimeoutError:  # a job that waits: its stream is silent
                    return

    def _place(self) -> str:
        return random.choice(self._places)


def _sent(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream (WHATWG HTML, 9.2.6), as far as ours are."""
    name = data = ""
    while line := response.readline().decode():
        field, _, value = line.rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif not line.strip():
            if data and name != "bye":
                yield json.loads(data)
            name = data = ""


def _refused(entry: Entry, status: int) -> None:
    if status < http.client.INTERNAL_SERVER_ERROR:
        entry.fault = f"its stream was refused with {status}"
    time.sleep(PAUSE)


def _is_over(entry: Entry) -> bool:
    return bool(entry.followed) and entry.followed[-1]["type"] in FINAL  # type: ignore[index]


def _last(entry: Entry) -> int:
    return int(entry.followed[-1]["seq"]) if entry.followed else 0


def _seqs(entry: Entry) -> list[str]:
    return [f"{event['seq']} {event['type']}" for event in entry.followed or []]
