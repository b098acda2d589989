"""What the OpenAPI document says of answers besides their models: headers, and problems."""

from typing import Any

from api.problems import MEDIA_TYPE, TYPES

Responses = dict[int | str, dict[str, Any]]

_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "The version, in quotes: a number, or the hash of a file",
        "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    },
    "Location": {"description": "The job's address", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds until it is worth asking again",
        "schema": {"type": "integer"},
    },
    "Preference-Applied": {
        "description": "The part of `Prefer` that was heeded",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "An earlier request with this key did it",
        "schema": {"type": "string", "const": "true"},
    },
    "Link": {"description": "RFC 8288: `first`, `next`", "schema": {"type": "string"}},
    "Content-Range": {"description": "Which bytes these are", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The file's name", "schema": {"type": "string"}},
    "Accept-Ranges": {"description": "`bytes`", "schema": {"type": "string"}},
}


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and the same body do it once, for at least 24 hours",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~][ -~]*$"},
    "example": "order-17",
}
PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: wait for the end of the job, up to N ≤ 30 seconds (RFC 7240)",
    "schema": {"type": "string"},
    "example": "wait=2",
}
IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag that the client has: 304 while it still fits",
    "schema": {"type": "string"},
}

RANGE: dict[str, Any] = {
    "name": "Range",
    "in": "header",
    "description": "One range of bytes, as in `bytes=0-499`",
    "schema": {"type": "string"},
}


def answer(description: str, *headers: str, model: Any = None) -> dict[str, Any]:
    """An answer with these headers; those whose names begin with `?` may be missing."""
    promised = {
        name.removeprefix("?"): {**_HEADERS[name.removeprefix("?")], "required": name[0] != "?"}
        for name in headers
    }
    shape = {} if model is None else {"model": model}
    return {"description": description, "headers": promised, **shape}


def problems(*codes: str) -> Responses:
    """The problems that an operation reports besides those that all do."""
    found: Responses = {}
    for code in codes:
        _, status, title = TYPES[code]
        known = found.setdefault(status, problem_response([]))
        known["description"] = "; ".join(
            filter(None, (known["description"], f"{title} (`{code}`)"))
        )
    return found


def problem_response(codes: list[str]) -> dict[str, Any]:
    """A problem's response object."""
    description = "; ".join(f"{TYPES[code].title} (`{code}`)" for code in codes)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
