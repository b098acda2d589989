"""The request of a delivery: signed now, sent to a checked address, never redirected."""

import asyncio
import time
from collections.abc import Iterable

import httpx2

from jobs.webhooks.sending import Outcome, Parcel
from jobs.webhooks.signing import signed
from kinds.http_exchange import CONNECT_WITHIN, as_text, retry_after
from kinds.http_guard import GuardedTransport, Network, TargetRefusedError

WITHIN = 20.0  # seconds for the whole exchange; the specification recommends 15 to 30
EXCERPT = 1024  # bytes of an answer that are kept: what a receiver says is for people
_HEADERS = {"Content-Type": "application/json", "User-Agent": "Lading-Webhooks/1"}


async def send(
    parcel: Parcel, allow_networks: Iterable[Network], within: float = WITHIN
) -> Outcome:
    """What came of the request. Nothing is raised for what a receiver or the network does."""
    if parcel.flaw is not None:
        return Outcome(error=parcel.flaw)
    began = time.monotonic()
    try:
        async with asyncio.timeout(within):
            outcome = await _exchange(parcel, allow_networks)
    except TargetRefusedError as error:
        outcome = Outcome(error=str(error))
    except (TimeoutError, httpx2.TimeoutException):
        outcome = Outcome(error=f"no answer within {within:g} s")
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        outcome = Outcome(error=f"{type(error).__name__}: {error}")
    return outcome._replace(seconds=time.monotonic() - began)


async def _exchange(parcel: Parcel, allow_networks: Iterable[Network]) -> Outcome:
    transport = GuardedTransport(allow_networks, in_clear=False)
    timeout = httpx2.Timeout(WITHIN, connect=CONNECT_WITHIN)
    headers = _HEADERS | signed(parcel.secrets, parcel.delivery_id, int(time.time()), parcel.body)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
        request = client.build_request("POST", parcel.url, headers=headers, content=parcel.body)
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            return Outcome(
                status=response.status_code,
                error=None if response.is_success else _refusal(response),
                response=await _excerpt(response),
                retry_after=retry_after(response.headers.get("Retry-After", "")),
            )
        finally:
            await response.aclose()


def _refusal(response: httpx2.Response) -> str:
    answer = f"answered {response.status_code} {response.reason_phrase}".rstrip()
    return f"{answer}; redirects are not followed" if response.is_redirect else answer


async def _excerpt(response: httpx2.Response) -> str:
    """How the body begins; empty where it breaks off before."""
    raw = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            raw += chunk
            if len(raw) >= EXCERPT:
                break
    except (httpx2.TransportError, httpx2.DecodingError):
        pass  # the status was the answer
    return as_text(bytes(raw[:EXCERPT]), response.charset_encoding or "utf-8", whole=False)
