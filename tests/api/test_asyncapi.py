"""The description of the sockets is what it says it is."""

import gzip
import json
from pathlib import Path

import httpx2
import jsonschema_rs
from pydantic import BaseModel

from api.streams import Event
from api.ws.asyncapi import document
from api.ws.frames import CLIENT, SERVER
from tests.api.serving import Api

OFFICIAL = Path(__file__).parent.parent / "data" / "asyncapi-3.0.0.json.gz"


def test_the_document_needs_no_key_and_fits_the_official_schema(api: Api) -> None:
    response = httpx2.get(f"{api.url}/asyncapi.json", timeout=40)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found == json.loads(json.dumps(document()))
    schema = jsonschema_rs.validator_for(json.loads(gzip.decompress(OFFICIAL.read_bytes())))
    schema.validate(found)
    assert not schema.is_valid({**found, "channels": {"x": {"address": 7}}}), "it can fail"


def test_every_frame_is_described(api: Api) -> None:
    messages = document()["components"]["messages"]
    models: list[type[BaseModel]] = [*CLIENT, *SERVER, Event]
    assert set(messages) == {model.__name__ for model in models}
    assert all(message["summary"] for message in messages.values())


def test_every_reference_leads_somewhere(api: Api) -> None:
    found = json.loads(json.dumps(document()))

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return here + [each for value in node.values() for each in references(value)]
        return (
            [each for value in node for each in references(value)] if isinstance(node, list) else []
        )

    for reference in set(references(found)):
        node = found
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
