"""The conversations of docs/streams.md, held with a server word by word."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from uuid import uuid4

import pytest

from api.streams import EventType
from api.ws.frames import CLIENT, SERVER, type_of
from tests.api.serving import Api
from tests.api.speaking import Client, Frame, raw_socket
from tests.conftest import ROOT

PAGE = (ROOT / "docs/streams.md").read_text()
DIALOGUES = re.findall(r"```dialogue\n(.*?)```", PAGE, re.DOTALL)
REST = "…"  # in the page: what is left out, of an object or of a text
ANYTHING = {REST, "0198…", "2026…"}  # in the page: texts that stand for no one thing


def lines_of(dialogue: str) -> Iterator[tuple[str, Any]]:
    """Who says what: an object that is left out in part has the member REST."""
    for line in dialogue.splitlines():
        speaker, text = line.split(" ", 1)
        yield speaker, json.loads(re.sub(r"([{ ])…}", rf'\1"{REST}": 0}}', text))


class Meaning:
    """What the texts of the page stand for in this conversation."""

    def __init__(self) -> None:
        own = f"u{uuid4().hex[:8]}"
        self.known: dict[str, Any] = {
            "0198b…": str(uuid4()),
            "order-1017": own,
            "evt-7": own,
            "billing": own,
            "user.*": f"{own}.*",
            "user.created": f"{own}.created",
        }

    def said(self, shown: Any) -> Any:
        """What the client says."""
        match shown:
            case dict():
                return {name: self.said(value) for name, value in shown.items()}
            case list():
                return [self.said(value) for value in shown]
            case str() if shown.startswith("job:"):
                return f"job:{self.said(shown.removeprefix('job:'))}"
            case str():
                return self.known.get(shown, shown)
        return shown

    def check(self, shown: Any, heard: Any) -> None:
        """The server has said that; what is new is learnt."""
        match shown:
            case dict():
                assert isinstance(heard, dict)
                named = shown.keys() - {REST}
                assert named <= heard.keys() if REST in shown else named == heard.keys(), heard
                for name in named:
                    self.check(shown[name], heard[name])
            case str() if shown in ANYTHING:
                pass
            case str() if shown.endswith(REST):
                assert self.known.setdefault(shown, heard) == heard
            case _:
                assert self.said(shown) == heard, shown


def listen(client: Client, expected: list[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """What is expected with what has come: in order under one id, in any order between ids."""
    heard = defaultdict[Any, list[Frame]](list)
    for _ in expected:
        frame = client.receive()
        heard[frame.get("id")].append(frame)
    for shown in expected:
        assert heard[shown.get("id")], (shown, dict(heard))
        yield shown, heard[shown.get("id")].pop(0)


@pytest.mark.parametrize("number", range(3))
def test_the_server_holds_the_conversations_of_the_page(api: Api, number: int) -> None:
    assert len(DIALOGUES) == 3
    (_, welcome), *lines = lines_of(DIALOGUES[number])
    meaning = Meaning()
    with raw_socket(api) as socket:
        client = Client(socket)
        meaning.check(welcome, client.welcome)
        for speaker, spoken in groupby(lines, key=lambda line: line[0]):
            frames = [frame for _, frame in spoken]
            if speaker == "<":
                for shown, heard in listen(client, frames):
                    meaning.check(shown, heard)
                continue
            for frame in frames:
                client.say(**meaning.said({**frame, "type_": frame.pop("type")}))
        assert client.is_silent()


def test_the_page_names_every_type_of_frame_and_event() -> None:
    frames = {type_of(model) for model in (*CLIENT, *SERVER)}
    assert [name for name in frames if f"| `{name} {{" not in PAGE] == []
    assert [name for name in EventType if f"`{name}`" not in PAGE] == []
