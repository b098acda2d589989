"""Clients that come back after every disconnect and go on where they were.

Each believes in the contract alone: of what comes it drops what it has, and what is left has to be
the next event of its job, every time.
"""

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import httpx2
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api.ws.frames import SUBPROTOCOL
from lading import AsyncClient, Client, Event
from tests.api.listening import sent
from tests.api.speaking import Frame, checked

LOST = (OSError, EOFError, TimeoutError, WebSocketException)
WITHIN = 20.0  # seconds of silence in which a client believes in its connection
AGAIN_AFTER = 0.02  # seconds
FINAL = {"succeeded", "failed", "cancelled"}
TRULY_FINAL = "succeeded"  # nothing comes after it, for no test retries it


class Told(NamedTuple):
    """An event, as far as all clients can tell it."""

    seq: int
    type: str
    data: str


def told(event: Mapping[str, Any] | Event) -> Told:
    fields = event.model_dump(mode="json") if isinstance(event, Event) else event
    return Told(fields["seq"], fields["type"], json.dumps(fields["data"], sort_keys=True))


class Seen:
    """What a client has of one job."""

    def __init__(self) -> None:
        self.events: list[Told] = []

    @property
    def seq(self) -> int:
        return len(self.events)

    @property
    def type(self) -> str:
        return self.events[-1].type if self.events else ""

    def take(self, event: Mapping[str, Any] | Event, *, is_filtered: bool = True) -> None:
        """The next event, or one that it has, where the client has to filter those."""
        new = told(event)
        if is_filtered and new.seq <= self.seq:
            assert new == self.events[new.seq - 1]
            return
        assert new.seq == self.seq + 1, f"{new} after {self.events[-3:]}"
        self.events.append(new)


class Returning(ABC):
    """A client that follows jobs in a thread of its own."""

    stays = False  #: it goes on after an end that a retry takes back

    def __init__(self, url: str, key: str, jobs: Sequence[str]) -> None:
        self.url, self.key = url, key
        self.seen = {job: Seen() for job in jobs}
        self.comings = 0
        self._given_up = threading.Event()

    def begin(self, pool: ThreadPoolExecutor) -> Future[None]:
        return pool.submit(self._run)

    def give_up(self) -> None:
        self._given_up.set()

    def has(self, heads: Mapping[str, int]) -> bool:
        """It has come so far with each job, or its job has ended for it."""
        return self.is_over or all(
            seen.seq >= heads[job] or (not self.stays and seen.type in FINAL)
            for job, seen in self.seen.items()
        )

    @property
    def everything(self) -> list[tuple[str, Seen]]:
        return [*self.seen.items()]

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """It wants no more."""

    @abstractmethod
    def come(self) -> None:
        """One connection, as far as it goes. One of LOST."""

    def _run(self) -> None:
        while not (self.is_over or self._given_up.wait(AGAIN_AFTER if self.comings else 0)):
            self.comings += 1
            with suppress(*LOST):
                self.come()

    def _connect(self, path: str, *subprotocols: str) -> ClientConnection:
        return connect(
            f"{self.url.replace('http', 'ws', 1)}{path}",
            additional_headers={"Authorization": f"Bearer {self.key}"},
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            proxy=None,
            compression=None,
            open_timeout=WITHIN,
            close_timeout=1,
        )


class ManyOnOneSocket(Returning):
    """On /v1/ws, a stream of each job, and the feed of all jobs from a position on."""

    stays = True

    def __init__(self, url: str, key: str, jobs: Sequence[str], position: str) -> None:
        super().__init__(url, key, jobs)
        self.fed = {job: Seen() for job in jobs}
        self._position = position

    @property
    def everything(self) -> list[tuple[str, Seen]]:
        return [*self.seen.items(), *self.fed.items()]

    @property
    def is_over(self) -> bool:
        return all(seen.type == TRULY_FINAL for _, seen in self.everything)

    def has(self, heads: Mapping[str, int]) -> bool:
        return all(seen.seq >= heads[job] for job, seen in self.everything)

    def come(self) -> None:
        with self._connect("/v1/ws", SUBPROTOCOL) as socket:
            self._subscribe(socket, "feed", "jobs", {"position": self._position})
            for job, seen in self.seen.items():
                self._subscribe(socket, job, f"job:{job}", {"seq": seen.seq} if seen.seq else None)
            while not self.is_over and self._take(checked(socket.recv(WITHIN))):
                pass

    def _subscribe(
        self, socket: ClientConnection, id_: str, stream: str, after: Frame | None
    ) -> None:
        fields = {"after": after} if after else {}
        socket.send(json.dumps({"type": "subscribe", "id": id_, "stream": stream, **fields}))

    def _take(self, frame: Frame) -> bool:
        match frame:
            case {"type": "event", "id": "feed", "event": event}:
                if event["job_id"] in self.fed:
                    self.fed[event["job_id"]].take(event)
                self._position = frame.get("position", self._position)
            case {"type": "event", "id": job, "event": event}:
                assert event["job_id"] == job
                self.seen[job].take(event)
            case {"type": "error", "problem": {"code": "database-unavailable" | "draining"}}:
                return False
            case _:
                assert frame["type"] in {"welcome", "subscribed", "bye"}, frame
        return bool(frame["type"] != "bye")


class OneSocket(Returning):
    """On /v1/jobs/{id}/ws."""

    def __init__(self, url: str, key: str, jobs: Sequence[str]) -> None:
        super().__init__(url, key, jobs)
        ((self.job, self.mine),) = self.seen.items()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def come(self) -> None:
        with self._connect(f"/v1/jobs/{self.job}/ws?after={self.mine.seq}") as socket:
            try:
                while True:
                    self.mine.take(json.loads(socket.recv(WITHIN)))
            except ConnectionClosed:
                # websockets drops what it has read when it cannot answer the close frame.
                is_whole = socket.connection_exc is None
                self._is_over = socket.close_code == 1000 and is_whole
        assert self.mine.type in FINAL or not self._is_over


class EventSource(Returning):
    """A reader of Server-Sent Events, as browsers have it."""

    def __init__(self, url: str, key: str, jobs: Sequence[str]) -> None:
        super().__init__(url, key, jobs)
        ((self.job, self.mine),) = self.seen.items()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def come(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        if self.mine.seq:
            headers["Last-Event-ID"] = str(self.mine.seq)
        path = f"{self.url}/v1/jobs/{self.job}/events"
        with (
            suppress(httpx2.RequestError),
            httpx2.stream("GET", path, headers=headers, timeout=WITHIN) as answer,
        ):
            if answer.status_code == 200:
                for each in sent(answer):
                    if each.event == "bye":
                        return
                    assert each.id == str(each.data["seq"])
                    self.mine.take(each.data)
            else:
                assert answer.status_code in {204, 503}, answer.read()
                self._is_over = answer.status_code == 204
        assert self.mine.type in FINAL or not self._is_over


class Blocking(Returning):
    """lading.Client, which comes back and filters by itself."""

    _is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def come(self) -> None:
        ((job, seen),) = self.seen.items()
        with Client(self.url, self.key, timeout=WITHIN) as client:
            for event in client.follow(job, patience=60):
                seen.take(event, is_filtered=False)
        self._is_over = True


class Asynchronous(Returning):
    """lading.AsyncClient, which follows all of the jobs at once."""

    _is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def come(self) -> None:
        asyncio.run(self._follow_all())
        self._is_over = True

    async def _follow_all(self) -> None:
        async with AsyncClient(self.url, self.key, timeout=WITHIN) as client:

            async def follow(job: str) -> None:
                async for event in client.follow(job, patience=60):
                    self.seen[job].take(event, is_filtered=False)

            await asyncio.gather(*map(follow, self.seen))
