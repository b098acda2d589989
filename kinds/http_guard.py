"""Which addresses http.request and webhooks may reach, decided when they connect.

The name is resolved here, every address is judged, and the connection is made to the very address
that was judged: a name that resolves to something else a moment later (DNS rebinding) changes
nothing. Certificates are still checked against the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str], Awaitable[Sequence[str]]]

# IANA hands out IPv6 unicast addresses from here alone. Outside lie loopback, private, link-local
# and multicast addresses, and IPv4 in disguise: mapped (::ffff:0:0/96) and NAT64 (64:ff9b::/96).
GLOBAL_IPV6 = IPv6Network("2000::/3")
# Special all the same (IANA's special-purpose registries), and global to `ipaddress` in some
# versions of Python 3.11: protocol assignments, 6to4 (IPv4 in disguise too) and documentation.
SPECIAL: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
)


class TargetRefusedError(Exception):
    """No address of the host is one that may be reached."""


def may_reach(address: Address, allow_networks: Iterable[Network]) -> bool:
    """Whether the address is a public one, or lies in a network that is allowed by name."""
    return any(address in network for network in allow_networks) or _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in GLOBAL_IPV6:
        return False
    special = address.is_multicast or address.is_reserved or any(address in net for net in SPECIAL)
    return address.is_global and not special


async def resolve(host: str) -> Sequence[str]:
    """The addresses of a host in the order to try them; OSError when there are none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class GuardedTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 to addresses that may be reached, and to no others. No proxies.

    Raises TargetRefusedError, or what an httpx2 transport raises.
    """

    def __init__(
        self,
        allow_networks: Iterable[Network],
        *,
        resolve: Resolve = resolve,
        in_clear: bool = True,
    ) -> None:
        """Unless `in_clear`, http:// reaches what lies in `allow_networks` alone."""
        self._allow_networks = tuple(allow_networks)
        self._resolve, self._in_clear = resolve, in_clear
        self._transport = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the first address that can be connected to."""
        host = request.url.raw_host.decode("ascii")
        addresses = await self._addresses(host)
        if request.url.scheme == "http" and not self._in_clear:
            addresses = self._for_plain_text(host, addresses)
        *others, last = addresses
        for address in others:
            try:
                return await self._transport.handle_async_request(_to(address, host, request))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # nothing has been sent
        return await self._transport.handle_async_request(_to(last, host, request))

    async def aclose(self) -> None:
        """All connections are closed."""
        await self._transport.aclose()

    async def _addresses(self, host: str) -> list[Address]:
        try:
            found = [ip_address(text) for text in await self._resolve(host)]
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of 64 characters
            raise httpx2.ConnectError(f"{host} cannot be resolved: {error}") from error
        allowed = [address for address in found if may_reach(address, self._allow_networks)]
        if not allowed:
            raise TargetRefusedError(
                f"{host} is no public address ({', '.join(map(str, found)) or 'none'});"
                " LADING_HTTP_ALLOW_NETWORKS does not list its network"
            )
        return allowed

    def _for_plain_text(self, host: str, addresses: Iterable[Address]) -> list[Address]:
        found = [
            each for each in addresses if any(each in network for network in self._allow_networks)
        ]
        if not found:
            raise TargetRefusedError(
                f"{host} is not reached without TLS: use https://, or list its network in"
                " LADING_HTTP_ALLOW_NETWORKS"
            )
        return found


def _to(address: Address, host: str, request: httpx2.Request) -> httpx2.Request:
    """The same request to an address; the Host header and the name in TLS stay."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


@cache
def _tls() -> ssl.SSLContext:
    """Read once a process: loading the system's certificates takes longer than a request."""
    return httpx2.create_ssl_context()
