"""Cursors: where a list goes on, bound to the filters it was made with. Opaque, and no secret."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request

from api.errors import parameter_flaw
from api.problems import Problem

_VERSION = 1
_BY_NAME = 2
_DIGEST_BYTES = 8  # enough to notice other filters; nobody gains by forging it


def write_cursor(last_id: UUID, filters: str) -> str:
    """A cursor behind that row."""
    return (
        base64.urlsafe_b64encode(bytes([_VERSION]) + last_id.bytes + _digest(filters))
        .decode()
        .rstrip("=")
    )


def read_cursor(cursor: str, filters: str) -> UUID:
    """The row that it stands behind. Problem 422 when it is none, 400 when the filters changed."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 1 + 16 + _DIGEST_BYTES or raw[0] != _VERSION:
        raise parameter_flaw("cursor", "this is no cursor of this server")
    if raw[17:] != _digest(filters):
        raise Problem("cursor-mismatch", "The cursor was made for a list with other filters.")
    return UUID(bytes=raw[1:17])


def write_name_cursor(name: str) -> str:
    """A cursor behind that name, for lists that are sorted by names and have no filters."""
    return base64.urlsafe_b64encode(bytes([_BY_NAME]) + name.encode()).decode().rstrip("=")


def read_name_cursor(cursor: str) -> str:
    """The name that it stands behind. Problem 422 when it is none."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if raw[:1] == bytes([_BY_NAME]) and b"\0" not in raw:
            return raw[1:].decode()
    except (binascii.Error, ValueError):
        pass
    raise parameter_flaw("cursor", "this is no cursor of this list")


def filters_of(request: Request, *others: str) -> str:
    """The list that a request asks for, whatever its cursor, limit and `others` choose of it."""
    return list_name(request.url.path, _without(request, "cursor", "limit", *others))


def list_name(path: str, narrowing: Iterable[tuple[str, str]]) -> str:
    """What the cursors of a list are bound to: its address, and the query that narrows it."""
    return f"{path} {urlencode(sorted(narrowing))}"


def page_link(request: Request, next_cursor: str | None) -> str:
    """A page's Link (RFC 8288); relative references, so that they hold behind any proxy."""
    query = _without(request, "cursor")
    pages = {"first": query}
    if next_cursor:
        pages["next"] = [*query, ("cursor", next_cursor)]
    return ", ".join(
        f'<{request.url.path}{"?" if query else ""}{urlencode(query)}>; rel="{relation}"'
        for relation, query in pages.items()
    )


def _without(request: Request, *names: str) -> list[tuple[str, str]]:
    return [each for each in request.query_params.multi_items() if each[0] not in names]


def _digest(filters: str) -> bytes:
    return hashlib.sha256(filters.encode()).digest()[:_DIGEST_BYTES]
