"""`/asyncapi.json`: what passes over the WebSockets, as AsyncAPI 3.0 says it.

Made from the models of api/ws/frames.py. "Receive" is what the server receives.
"""

from functools import cache
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from api.documents import JSON
from api.streams import Event
from api.ws import frames
from api.ws.frames import CLIENT, SERVER, SUBPROTOCOL

router = APIRouter(include_in_schema=False)

_SCHEMAS = "#/components/schemas/"
_MANY = (
    f"Subprotocol `{SUBPROTOCOL}`: many streams and commands on one socket. Programs send an API"
    " key in the Authorization header; pages get a ticket from `POST /v1/ws-tickets` and send it as"
    " a second subprotocol, `ticket.<ticket>`. Close codes: 44xx: mend something first (4400 bad"
    " frame, 4401 not authenticated, 4403 forbidden, 4404 no such job, 4429 too many); 45xx and"
    " 10xx: come back and resume (4508 too slow)."
)
_SIMPLE = (
    "A job's events, one a frame: those after `after`, and then what happens. Closed with 1000"
    " after the event that ends the job."
)


@cache
def document() -> dict[str, Any]:
    """The document, the same for every request."""
    said = {model.__name__: model for model in CLIENT}
    sent = {model.__name__: model for model in SERVER}
    every: dict[str, type[BaseModel]] = {**said, **sent, Event.__name__: Event}
    _, schemas = models_json_schema(
        [(model, "validation") for model in every.values()], ref_template=f"{_SCHEMAS}{{model}}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lading",
            "version": "1",
            "description": "Durable background jobs, followed live.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "channels": {
            "streams": _channel("/v1/ws", _MANY, [*said, *sent]),
            "job": {
                **_channel("/v1/jobs/{job_id}/ws", _SIMPLE, [Event.__name__]),
                "parameters": {"job_id": {"description": "The job's id"}},
            },
        },
        "operations": {
            "receiveFrame": _operation("receive", "streams", [*said]),
            "sendFrame": _operation("send", "streams", [*sent]),
            "sendEvent": _operation("send", "job", [Event.__name__]),
        },
        "components": {
            "messages": {name: _message(name, model) for name, model in every.items()},
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key"}
            },
        },
    }


@router.get("/asyncapi.json")
async def asyncapi() -> Response:
    """The description of the WebSockets."""
    return Response(to_json(document()), media_type=JSON)


def _channel(address: str, description: str, names: list[str]) -> dict[str, Any]:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    return {
        "address": address,
        "description": description,
        "messages": messages,
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _operation(action: str, channel: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        "security": [{"$ref": "#/components/securitySchemes/key"}],
    }


def _message(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": frames.type_of(model) if model is not Event else "event",
        "title": name,
        "summary": model.__doc__,
        "payload": {"$ref": f"{_SCHEMAS}{name}"},
    }
