"""Requests say what they mean: a query key or a media type that is not known is refused."""

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from api.errors import parameter_flaw
from api.problems import Problem

ANY_KEY = "<key>"  #: ends the name of a parameter that stands for all that begin like it


class StrictRoute(APIRoute):
    """Every router of /v1 is made with it: `APIRouter(route_class=StrictRoute)`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Its operation in the OpenAPI document is called like its function."""
        options["operation_id"] = options.get("operation_id") or endpoint.__name__
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = self._quickly(super().get_route_handler())
        names = {name for each in self.dependant.query_params for name in _names(each)}
        prefixes = tuple(name.removesuffix(ANY_KEY) for name in names if name.endswith(ANY_KEY))
        takes_json = self.body_field is not None

        async def handle_strictly(request: Request) -> Response:
            if request.scope["query_string"]:
                for name in request.query_params:
                    if name not in names and not (prefixes and name.startswith(prefixes)):
                        raise parameter_flaw(name, "there is no such parameter here")
            if takes_json and not _is_json(request):
                raise Problem(
                    "unsupported-media-type", "The body's Content-Type must be application/json."
                )
            return await handle(request)

        return handle_strictly

    def _quickly(
        self, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The same, but that a good body is read once where an endpoint asks for nothing else.

        FastAPI reads it into Python's values first, and these into the model. What the model does
        not take from JSON is left to FastAPI, which says why.
        """
        found = _only_body(self)
        if found is None:
            return handle
        endpoint, model = self.endpoint, found

        async def read_and_handle(request: Request) -> Response:
            try:
                body = model.model_validate_json(await request.body())
            except (ValidationError, ClientDisconnect):
                return await handle(request)
            answer: Response = await endpoint(request, body)
            return answer

        return read_and_handle


def _only_body(route: APIRoute) -> type[BaseModel] | None:
    """Of an endpoint `async def …(request: Request, body: Model) -> Response`, the model."""
    signature = inspect.signature(route.endpoint, eval_str=True)
    if [*signature.parameters] != ["request", "body"] or route.dependencies:
        return None
    if signature.return_annotation is not Response or not inspect.iscoroutinefunction(
        route.endpoint
    ):
        return None
    model = signature.parameters["body"].annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _names(parameter: Any) -> Iterator[str]:
    """The parameter's name, or the names of the fields of its model."""
    model = parameter.field_info.annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield field.alias or name
    else:
        yield parameter.alias


def _is_json(request: Request) -> bool:
    """Whether the body is called JSON, or there is none."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return True
    headers = request.headers
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
