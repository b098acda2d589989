"""JSON as PostgreSQL can keep it: no NUL, no lone surrogate, no NaN (RFC 8259)."""

import json
import math
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class NotStorable(ValueError):
    """The document holds something that no jsonb column can."""


def encode(document: Any) -> str:
    """The document as compact JSON text. NotStorable says what stands in the way."""
    try:
        text = _ENCODER.encode(document)
        text.encode()
    except UnicodeEncodeError as error:
        raise NotStorable("a string holds half a surrogate pair") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise NotStorable(f"no JSON document: {error}") from error
    if "\\u0000" in text and "\0" in _strings(document):
        raise NotStorable("a string holds U+0000, which PostgreSQL cannot store")
    return text


def canonical(document: Any) -> bytes:
    """The same bytes for the same document, whatever the order of its keys."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def storable_text(text: str) -> str:
    """The text with what cannot be stored replaced by U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def storable(document: Any) -> Any:
    """The document with what cannot be stored replaced; NaN and infinities become text."""
    match document:
        case str():
            return storable_text(document)
        case dict():
            return {storable_text(str(key)): storable(value) for key, value in document.items()}
        case list() | tuple():
            return [storable(value) for value in document]
        case float() if not math.isfinite(document):
            return str(document)
        case _:
            return document


def _strings(document: Any) -> str:
    match document:
        case str():
            return document
        case dict():
            return "".join(key + _strings(value) for key, value in document.items())
        case list() | tuple():
            return "".join(_strings(value) for value in document)
        case _:
            return ""
