"""One HTTP exchange: redirects on the same host, a bounded body, and what failed for how long."""

import asyncio
import base64
import codecs
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from kinds.http_guard import TargetRefusedError
from lading import Fail, Retry

BODY_LIMIT = 256 * 1024  # bytes; escaped as JSON still within the 1 MiB of a result
CONNECT_WITHIN = 10.0  # seconds per address; a SYN is sent three times within them
REDIRECTS = 5  # on one host more of them are a loop
LATER = frozenset({408, 425, 429})  # and 5xx: the same request may be answered differently soon
LONGEST_WAIT = timedelta(hours=1)  # the cap of the retry policy: a server cannot park a job
QUOTED = 500  # characters of a body in an error's message
NOT_IDEMPOTENT = frozenset({"POST", "PATCH"})  # RFC 9110 §9.2.2, RFC 5789
# Encodings of characters. Python knows others that expand, or take time quadratic in the length.
CHARSETS = re.compile(
    r"utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp125\d|koi8-[ru]|shift_jis|euc_(jp|kr)|gb\w+|big5"
)
# Not in text, and PostgreSQL's JSON cannot hold the first of them.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for. `timeout` is in seconds and holds for the whole exchange."""

    method: str
    url: str
    headers: dict[str, str]
    json: Any
    body: str | None
    timeout: float
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How the server answered; `body` is text or a data: URL."""

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool


async def exchange(call: Call, transport: httpx2.AsyncBaseTransport) -> Answer:
    """The answer that stands. Retry: there may be one later. Fail: the target is refused."""
    place = f"{call.method} {httpx2.URL(call.url).host}"
    timeout = httpx2.Timeout(call.timeout, connect=min(call.timeout, CONNECT_WITHIN))
    client = httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout)
    try:
        async with asyncio.timeout(call.timeout), client:
            return await _follow(client, _request(client, call), place)
    except TargetRefusedError as error:
        raise Fail(str(error)) from None
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise Retry(f"{place}: no answer within {call.timeout:g} s") from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise Retry(f"{place}: {type(error).__name__}: {error}") from error
    except (httpx2.InvalidURL, httpx2.RequestError) as error:  # of a redirect
        raise Fail(f"{place}: {error}") from error


def _request(client: httpx2.AsyncClient, call: Call) -> httpx2.Request:
    headers = httpx2.Headers({"User-Agent": "Lading", **call.headers})
    if call.method in NOT_IDEMPOTENT:
        headers.setdefault("Idempotency-Key", call.idempotency_key)
    return client.build_request(
        call.method, call.url, headers=headers, json=call.json, content=call.body
    )


async def _follow(client: httpx2.AsyncClient, request: httpx2.Request, place: str) -> Answer:
    for _ in range(REDIRECTS + 1):
        response = await client.send(request, stream=True)
        try:
            following = response.next_request
            if following is None or not same_host(request.url, following.url):
                return await _answer(response, place)
        finally:
            await response.aclose()
        request = following
    raise Fail(f"{place}: more than {REDIRECTS} redirects")


def same_host(here: httpx2.URL, there: httpx2.URL) -> bool:
    """Whether a redirect stays with the same server, or goes to its https side."""
    upgrade = (here.scheme, here.port, there.scheme, there.port) == ("http", None, "https", None)
    return here.host == there.host and (here.origin == there.origin or upgrade)


async def _answer(response: httpx2.Response, place: str) -> Answer:
    raw, truncated = await _read(response)
    body = as_text(raw, response.charset_encoding or "utf-8", whole=not truncated)
    if response.status_code in LATER or response.is_server_error:
        message = f"{place}: {response.status_code} {response.reason_phrase}: {body[:QUOTED]}"
        raise Retry(message, after=retry_after(response.headers.get("Retry-After", "")))
    return Answer(response.status_code, dict(response.headers), body, truncated)


async def _read(response: httpx2.Response) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > BODY_LIMIT:
            return bytes(body[:BODY_LIMIT]), True
    return bytes(body), False


def as_text(raw: bytes, charset: str, *, whole: bool) -> str:
    """The bytes as text, or as a data: URL (RFC 2397) when they are none or begin with data:.

    Unless it is the `whole` of it, the last character may be cut in two, and is left out then.
    """
    try:
        codec = codecs.lookup(charset)
        if CHARSETS.fullmatch(codec.name):
            text = codec.incrementaldecoder().decode(raw, final=whole)
            if not CONTROLS.search(text) and not text.startswith("data:"):
                return text
    except (LookupError, ValueError):  # ValueError: not of that charset, or a name with a NUL
        pass
    return f"data:application/octet-stream;base64,{base64.b64encode(raw).decode('ascii')}"


def retry_after(value: str) -> timedelta | None:
    """How long the server asks to wait (RFC 9110 §10.2.3), one second to one hour; None: unsaid."""
    value = value.strip()
    try:
        if re.fullmatch(r"[0-9]{1,9}", value):
            wait = timedelta(seconds=int(value))
        else:
            wait = _aware(parsedate_to_datetime(value)) - datetime.now(UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(wait, timedelta(seconds=1)), LONGEST_WAIT)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
