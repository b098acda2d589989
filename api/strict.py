"""Requests say what they mean: a query key or a media type that is not known is refused."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

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
        handle = super().get_route_handler()
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
