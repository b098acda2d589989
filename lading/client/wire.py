"""Between the client's own words and httpx2's: what both ways of waiting share."""

import importlib.metadata
import ssl
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import httpx2

from lading.client.address import Address
from lading.client.exchange import EVENT_STREAM, Answer, Lost, Message, Request
from lading.client.transfers import Upload

#: What may go wrong on the way; everything else is a mistake in a program.
BROKEN = (httpx2.RequestError,)
LARGEST_EVENT = 16 * 1024 * 1024  # bytes; a hundred log lines have no limit of their own
CONNECTIONS = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
_CONNECTING = 10.0  # seconds
LISTENING = httpx2.Timeout(20.0, connect=_CONNECTING)  # the server sends something every 15 s
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def defaults(address: Address, timeout: float) -> dict[str, Any]:
    """What an httpx2 client for that address is made with."""
    headers = {"User-Agent": f"lading-python/{_version()}"}
    if address.api_key is not None:
        headers["Authorization"] = f"Bearer {address.api_key}"
    return {
        "base_url": address.url,
        "headers": headers,
        "timeout": httpx2.Timeout(timeout, connect=min(timeout, _CONNECTING)),
        "limits": CONNECTIONS,
    }


def sending(request: Request, timeout: float, source: BinaryIO | bytes | None) -> dict[str, Any]:
    """How httpx2 is asked for this request; `source` are the bytes of its upload."""
    upload = request.upload
    files = None if upload is None else {"file": (upload.name, source, upload.media_type)}
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query) or None,
        "content": request.body,
        "files": files,
        "headers": dict(request.headers),
        "timeout": httpx2.Timeout(
            timeout, connect=min(timeout, _CONNECTING), read=timeout + request.extra_wait
        ),
    }


def opened(upload: Upload | None) -> AbstractContextManager[BinaryIO | bytes | None]:
    """The bytes to be sent, from their beginning."""
    if upload is None:
        return nullcontext(None)
    if isinstance(upload.source, bytes):
        return nullcontext(upload.source)
    return upload.source.open("rb")


def is_stream(response: httpx2.Response) -> bool:
    """Whether Server-Sent Events follow."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.status_code == httpx2.codes.OK and media_type == EVENT_STREAM


def answer_of(response: httpx2.Response, body: bytes = b"") -> Answer:
    return Answer(response.status_code, _headers(response), body)


def lost(error: httpx2.RequestError) -> Lost:
    """What happened to a connection, as far as it matters for going on."""
    causes = _roots(error)
    return Lost(
        error,
        was_sent=not isinstance(error, _NOT_SENT),
        was_silent=isinstance(error, httpx2.ReadTimeout),
        is_hopeless=any(isinstance(each, ssl.SSLCertVerificationError) for each in causes),
    )


def message_of(event: httpx2.ServerSentEvent) -> Message:
    return Message(event.event, event.data, event.id)


def _roots(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following = error.__cause__ or error.__context__
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def _headers(response: httpx2.Response) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _version() -> str:
    try:
        return importlib.metadata.version("lading")
    except importlib.metadata.PackageNotFoundError:
        return "0"  # run from a checkout
