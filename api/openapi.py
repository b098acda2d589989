"""The OpenAPI document: what FastAPI finds in the routes, and what holds for all of them."""

from typing import Any

from fastapi import FastAPI

from api import schemas
from api.authentication import is_keyless, needed_scope
from api.problems import TYPES
from api.promises import problem_response

_SECURITY = "bearer"
_BEARER = {"type": "http", "scheme": "bearer", "description": "An API key: `lading_…`"}
_REQUEST_ID = {
    "description": "The request's id, as given or made; it stands in the log and in problems",
    "schema": {"type": "string"},
}
_CHALLENGE = {"description": "RFC 6750", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "Seconds", "schema": {"type": "integer"}}
_RATES = {
    "RateLimit-Policy": {
        "description": "Of a key with a rate: `q` requests in `w` seconds"
        " (draft-ietf-httpapi-ratelimit-headers)",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "Of a key with a rate: `r` requests are left, all again in `t` seconds;"
        " of a 429, as `Retry-After`, the next one in `t` seconds",
        "schema": {"type": "string"},
    },
}
_REPLACED = ("HTTPValidationError", "ValidationError")


class Application(FastAPI):
    """FastAPI with a document that tells the whole truth about errors, keys and headers."""

    def openapi(self) -> dict[str, Any]:
        """The document; made at the first call."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(operation, path, method)
            _add_components(document["components"])
            _drop_defaults_of_changes(document)
        return super().openapi()


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    responses = operation["responses"]
    _set(responses, "validation-failed")
    _set(responses, "internal-error")
    if "503" not in responses:
        _set(responses, "database-unavailable")
    if "503" in responses:
        responses["503"].setdefault("headers", {})["Retry-After"] = _RETRY_AFTER
    if not is_keyless(path):
        scope = needed_scope(path, method.upper())
        said = operation.get("description", "")
        operation["description"] = f"{said}\n\nNeeds the scope `{scope}`.".lstrip()
        operation["security"] = [{_SECURITY: []}]
        _set(responses, "rate-limited")
        responses["429"].setdefault("headers", {})["Retry-After"] = _RETRY_AFTER
        _set(responses, "unauthenticated")
        _set(responses, "insufficient-scope")
        responses["401"]["headers"] = {"WWW-Authenticate": _CHALLENGE}
    for response in responses.values():
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = _REQUEST_ID
        if not is_keyless(path):
            headers.update(_RATES)
    operation["responses"] = dict(sorted(responses.items()))


def _set(responses: dict[str, Any], code: str) -> None:
    """The problem is among the responses; FastAPI's own description of it is not."""
    status = str(TYPES[code].status)
    content = responses.get(status, {}).get("content", {})
    if "application/problem+json" not in content:
        responses[status] = problem_response([code])


def _drop_defaults_of_changes(document: dict[str, Any]) -> None:
    """What a PATCH leaves out stays: a client that filled in defaults would change it."""
    for operations in document["paths"].values():
        if "patch" in operations:
            content = operations["patch"]["requestBody"]["content"]["application/json"]
            name = content["schema"]["$ref"].rpartition("/")[2]
            for field in document["components"]["schemas"][name]["properties"].values():
                field.pop("default", None)


def _add_components(components: dict[str, Any]) -> None:
    found = components["schemas"]
    for name in _REPLACED:
        found.pop(name, None)
    problem = schemas.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    found.update(problem.pop("$defs"))
    found["Problem"] = problem
    components["securitySchemes"] = {_SECURITY: _BEARER}
