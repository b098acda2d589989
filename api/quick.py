"""Good requests with a JSON body, and nothing else to be asked for, go round FastAPI's layers.

Those find the route, open three exit stacks, read the body into Python's values and these into the
endpoint's model; here the model reads the body itself. Whatever is not quite so simple (a query, an
unusual Content-Type, a body that does not fit or that breaks off) goes the usual way, which
finds everything as it was and says what is wrong. The OpenAPI document knows no difference.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.problems import Problem
from jobs.errors import JobsError

_JSON = (b"content-type", b"application/json")

Endpoint = Callable[[Request, BaseModel], Awaitable[Response]]


class Quick:
    """A pure ASGI middleware: the last before FastAPI's own, for requests that were let in."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app, self._ways = app, _ways(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._ways.get(scope["path"]) if scope.get("method") == "POST" else None
        if way is None or scope["query_string"] or _JSON not in scope["headers"]:
            await self._app(scope, receive, send)
            return
        endpoint, model = way
        heard: list[Message] = []
        try:
            body = model.model_validate_json(await _read(receive, heard))
        except (ValidationError, EOFError):
            await self._app(scope, _again(heard, receive), send)
            return
        except HTTPException as error:  # it is too long
            await self._app(scope, _again(heard, receive, error), send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request, body)
        except (Problem, JobsError, HTTPException) as error:
            response = await errors.answer(request, error)
        await response(scope, receive, send)


def _ways(routes: Iterable[BaseRoute]) -> Mapping[str, tuple[Endpoint, type[BaseModel]]]:
    """Of `async def …(request: Request, body: Model) -> Response`, by their paths."""
    found = {}
    for route in routes:
        if isinstance(route, APIRoute) and route.methods == {"POST"}:
            model = _only_body(route)
            if model is not None:
                found[route.path] = cast("Endpoint", route.endpoint), model
    return found


def _only_body(route: APIRoute) -> type[BaseModel] | None:
    signature = inspect.signature(route.endpoint, eval_str=True)
    if [*signature.parameters] != ["request", "body"] or route.dependencies:
        return None
    if signature.return_annotation is not Response or not inspect.iscoroutinefunction(
        route.endpoint
    ):
        return None
    model = signature.parameters["body"].annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


async def _read(receive: Receive, heard: list[Message]) -> bytes:
    """The whole body; what was received stands in `heard`. EOFError: the client has gone."""
    while True:
        message = await receive()
        heard.append(message)
        if message["type"] != "http.request":
            raise EOFError
        if not message.get("more_body", False):
            return b"".join([each.get("body", b"") for each in heard])


def _again(heard: list[Message], receive: Receive, error: Exception | None = None) -> Receive:
    """What was heard is received once more, then the error or what comes."""
    left = iter(heard)

    async def receive_again() -> Any:
        for message in left:
            return message
        if error is not None:
            raise error
        return await receive()

    return receive_again
