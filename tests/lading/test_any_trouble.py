"""Whatever the connection does, in whatever order: each event once, in order, none missing.

The follower's decisions are driven here without a network, by a server that answers as Lading does
and by a connection that Hypothesis breaks.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from lading.client.exchange import (
    EVENT_STREAM,
    Answer,
    Emit,
    Hear,
    Listen,
    Lost,
    Message,
    Pause,
    Request,
    Send,
)
from lading.client.following import Following

JOB = UUID(int=1)
AT = "2026-01-02T03:04:05Z"
CUT = Lost(ConnectionResetError("cut"), was_sent=True)
SILENCE = Lost(TimeoutError("silence"), was_sent=True, was_silent=True)
BYE = Message("bye", '{"retry_after_ms": 1000}')
HELLO = Message("message", "")  # `retry: 2000`, which a stream begins with
DRAINING = Answer(
    503,
    {"content-type": "application/problem+json"},
    b'{"status": 503, "code": "draining", "detail": "later"}',
)


class Broken(NamedTuple):
    """A stream that brings so many events, not beginning where it was asked to, and then this."""

    events: int
    shifted: int
    end: Lost | Message | None


Trouble = Lost | Answer | Broken

ENDS = st.sampled_from([CUT, SILENCE, BYE, None])  # None: ended properly, by a proxy
TROUBLES: st.SearchStrategy[list[Trouble]] = st.lists(
    st.one_of(
        st.builds(Broken, st.integers(0, 6), st.integers(-3, 3), ENDS),
        st.sampled_from(
            [
                CUT,
                SILENCE,
                DRAINING,
                Answer(502, {}),
                Answer(504, {"content-type": "text/html"}),
                Answer(406, {}),
                Answer(200, {"content-type": "application/json"}, b'{"items": []}'),
            ]
        ),
    ),
    max_size=8,
)
HISTORIES = st.lists(
    st.sampled_from(["progress", "log", "failed", "queued", "started"]), max_size=12
).map(lambda between: ["created", *between, "succeeded"])


class Server:
    """Lading with one job, whose history grows by `pace` events a request."""

    def __init__(self, types: list[str], pace: int, troubles: list[Trouble]) -> None:
        self._types, self._pace = types, pace
        self._troubles = iter(troubles)
        self._stream: Iterator[Message | Lost | None] = iter(())
        self._newest = 1

    def listen(self, request: Request) -> Answer | Lost:
        after = self._asked_after(request)
        trouble = next(self._troubles, None)
        if isinstance(trouble, Answer | Lost):
            return trouble
        if trouble is None:
            self._newest = len(self._types)
            trouble = Broken(len(self._types), 0, None)
        if after >= len(self._types):
            return Answer(204, {})
        self._stream = self._streamed(after, trouble)
        return Answer(200, {"content-type": f"{EVENT_STREAM}; charset=utf-8"})

    def hear(self) -> Message | Lost | None:
        return next(self._stream)

    def send(self, request: Request) -> Answer:
        if request.path.endswith("/events"):
            items = self._events(self._asked_after(request))
            return Answer(200, {}, json.dumps({"items": items}).encode())
        if request.headers.get("If-None-Match") == f'"{self._newest}"':
            self._grow()
            return Answer(304, {})
        return Answer(200, {}, json.dumps(self._job()).encode())

    def _asked_after(self, request: Request) -> int:
        self._grow()
        return int(dict(request.query)["after"])

    def _grow(self) -> None:
        self._newest = min(self._newest + self._pace, len(self._types))

    def _streamed(self, after: int, trouble: Broken) -> Iterator[Message | Lost | None]:
        if trouble.events or trouble.end is None:
            yield HELLO
        events = self._events(max(0, after + trouble.shifted))[: trouble.events]
        for event in events:
            yield Message(event["type"], json.dumps(event))
        was_an_end = bool(events) and events[-1]["type"] == "failed"  # and the job was retried
        yield CUT if trouble.end is None and was_an_end else trouble.end

    def _events(self, after: int) -> list[dict[str, Any]]:
        return [
            {"job_id": str(JOB), "seq": seq, "type": kind, "at": AT, "attempt": 1, "data": {}}
            for seq, kind in enumerate(self._types[: self._newest], 1)
            if seq > after
        ]

    def _job(self) -> dict[str, Any]:
        is_over = self._newest == len(self._types)
        numbers = dict.fromkeys(("priority", "attempt", "failures", "crashes", "max_attempts"), 1)
        return {
            "id": str(JOB),
            "kind": "test.echo",
            "state": "succeeded" if is_over else "running",
            "queue": "default",
            **numbers,
            "labels": {},
            "version": self._newest,
            "seq": self._newest,
            "cancel_requested": False,
            "created_at": AT,
        }


def follow(server: Server, after: int) -> list[int]:
    """The numbers of the events that a follower hands out, in its order."""
    series = Following(str(JOB), after, patience=1e9).events()
    seen: list[int] = []
    reply: Answer | Lost | Message | None = None
    while True:
        try:
            action = series.send(reply)
        except StopIteration:
            return seen
        match action:
            case Emit(event):
                seen.append(event.seq)
                reply = None
            case Pause(seconds):
                assert 0 <= seconds < 30
                reply = None
            case Listen(request):
                reply = server.listen(request)
            case Hear():
                reply = server.hear()
            case Send(request):
                reply = server.send(request)


@settings(deadline=None)
@given(HISTORIES, st.integers(1, 4), TROUBLES)
def test_each_event_comes_once_and_in_order(
    types: list[str], pace: int, troubles: list[Trouble]
) -> None:
    assert follow(Server(types, pace, troubles), 0) == list(range(1, len(types) + 1))


@settings(deadline=None)
@given(HISTORIES, st.integers(0, 20), TROUBLES)
def test_what_is_known_does_not_come_again(
    types: list[str], after: int, troubles: list[Trouble]
) -> None:
    after = min(after, len(types))
    server = Server(types, 3, troubles)
    assert follow(server, after) == list(range(after + 1, len(types) + 1))
