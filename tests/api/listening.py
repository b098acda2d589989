"""Clients of a job's events: Server-Sent Events by the letter, and a WebSocket."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.serving import Api


class Sent(NamedTuple):
    """One Server-Sent Event, as an EventSource dispatches it."""

    id: str
    event: str
    data: Any


@contextmanager
def event_stream(
    api: Api, job_id: str, after: int | None = None, **headers: str
) -> Iterator[httpx2.Response]:
    """The open response to a request for a stream, whatever it is."""
    query = {} if after is None else {"after": after}
    accept = {"Accept": "text/event-stream", **headers}
    url = f"/v1/jobs/{job_id}/events"
    with api.http.stream("GET", url, params=query, headers=accept, timeout=30) as response:
        yield response


def sent(response: httpx2.Response) -> Iterator[Sent]:
    """The stream's events up to its end (WHATWG HTML, 9.2.6)."""
    last_id, fields = "", dict[str, str]()
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            continue
        last_id = fields.get("id", last_id)
        if "data" in fields:
            yield Sent(last_id, fields.get("event", "message"), json.loads(fields["data"]))
        fields.clear()


@contextmanager
def web_socket(
    api: Api, job_id: str, query: str = "", **options: Any
) -> Iterator[ClientConnection]:
    """An open socket. InvalidStatus when the handshake is refused."""
    headers = options.pop("headers", {"Authorization": f"Bearer {api.key}"})
    url = f"{api.url.replace('http', 'ws', 1)}/v1/jobs/{job_id}/ws{query}"
    with connect(
        url, additional_headers=headers, proxy=None, compression=None, **options
    ) as socket:
        yield socket


def frames(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """The events up to the close, and its code."""
    events = []
    try:
        while True:
            events.append(json.loads(socket.recv(timeout=30)))
    except ConnectionClosed:
        return events, socket.close_code


def following(api: Api) -> int:
    """How many readers the process feeds."""
    return sum(len(feed.waiting) for feed in [*api.parts.hub._feeds.values()])
