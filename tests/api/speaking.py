"""A client of /v1/ws that believes nothing: each frame is compared with the models, and with
the document that /asyncapi.json promises."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import uuid4

import jsonschema_rs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api.ws.asyncapi import document
from api.ws.frames import SERVER, SUBPROTOCOL, type_of
from tests.api.serving import Api

MODELS = {type_of(model): model for model in SERVER}
Frame = dict[str, Any]


@cache
def promised(name: str) -> Any:
    """The document's own schema of that message."""
    found = json.loads(json.dumps(document()))
    return jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
    )


def checked(text: str | bytes) -> Frame:
    """The frame, which is as promised."""
    assert isinstance(text, str)
    frame: Frame = json.loads(text)
    assert next(iter(frame)) == "type"
    model = MODELS[frame["type"]]
    model.model_validate_json(text)
    promised(model.__name__).validate(frame)
    return frame


class Client:
    """An open socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome = self.receive("welcome")

    def say(self, type_: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type_, **fields}))

    def receive(self, *types: str, timeout: float = 30) -> Frame:
        """The next frame, which is of one of these types, if any are named."""
        frame = checked(self.socket.recv(timeout=timeout))
        assert not types or frame["type"] in types, frame
        return frame

    def follow(self, job_id: Any, after: int | None = None, id_: str = "s") -> Frame:
        """The answer to `subscribe`."""
        position = {} if after is None else {"after": {"seq": after}}
        self.say("subscribe", id=id_, stream=f"job:{job_id}", **position)
        return self.receive("subscribed", "error")

    def follow_all(self, position: str | None = None, id_: str = "s", **wanted: Any) -> Frame:
        fields: Frame = {} if position is None else {"after": {"position": position}}
        if wanted:
            fields["filter"] = wanted
        self.say("subscribe", id=id_, stream="jobs", **fields)
        return self.receive("subscribed", "error")

    def command(self, op: str, key: str | None = None, **body: Any) -> Frame:
        """The answer to a command."""
        id_ = uuid4().hex
        fields = {} if key is None else {"idempotency_key": key}
        self.say("command", id=id_, op=op, body=body, **fields)
        frame = self.receive("result", "error")
        assert frame["id"] == id_
        return frame

    def events(self, is_last: Callable[[Frame], bool], id_: str = "s") -> list[Frame]:
        """The subscription's event frames up to that one."""
        found: list[Frame] = []
        while not found or not is_last(found[-1]["event"]):
            frame = self.receive("event")
            if frame["id"] == id_:
                found.append(frame)
        return found

    def is_silent(self) -> bool:
        """Nothing comes but what is asked for."""
        self.say("ping", t="silent?")
        return self.receive() == {"type": "pong", "t": "silent?"}

    def rest(self) -> tuple[list[Frame], int | None]:
        """The frames up to the close, and its code."""
        found: list[Frame] = []
        try:
            while True:
                found.append(self.receive())
        except ConnectionClosed:
            return found, self.socket.close_code


@contextmanager
def raw_socket(api: Api, *subprotocols: str, **options: Any) -> Iterator[ClientConnection]:
    """An open socket. InvalidStatus when the handshake is refused."""
    headers = options.pop("headers", {"Authorization": f"Bearer {api.key}"})
    names = [Subprotocol(name) for name in subprotocols or (SUBPROTOCOL,)]
    with connect(
        f"{api.url.replace('http', 'ws', 1)}/v1/ws",
        additional_headers=headers,
        subprotocols=names,
        proxy=None,
        compression=None,
        close_timeout=1,  # seconds: a client that leaves frames unread sees no close
        **options,
    ) as socket:
        yield socket


@contextmanager
def speaking(api: Api, *subprotocols: str, **options: Any) -> Iterator[Client]:
    """A client that was welcomed."""
    with raw_socket(api, *subprotocols, **options) as socket:
        assert socket.subprotocol == SUBPROTOCOL
        yield Client(socket)


def ends(event: Frame) -> bool:
    return event["type"] in {"succeeded", "failed", "cancelled"}


def seqs(frames: list[Frame]) -> list[int]:
    return [frame["event"]["seq"] for frame in frames]
