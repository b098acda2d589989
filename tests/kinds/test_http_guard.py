import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest
import trustme

from kinds import http_guard
from kinds.http import request
from kinds.http_exchange import Answer, Call, exchange
from kinds.http_guard import GuardedTransport, may_reach
from lading import Fail, Retry
from lading.testing import run
from tests.kinds.conftest import Configure
from tests.kinds.web_server import Website, reply, web_server

LOOPBACK = IPv4Network("127.0.0.0/8")


class Resolver:
    """Answers one after the other, and the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), list[str]()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def ask(
    url: str, *networks: IPv4Network, resolve: http_guard.Resolve = http_guard.resolve
) -> Answer:
    call = Call("GET", url, {}, json=None, body=None, timeout=5, idempotency_key="k")
    return asyncio.run(exchange(call, GuardedTransport(networks, resolve=resolve)))


@pytest.fixture
def site() -> Iterator[Website]:
    with web_server() as website:
        website.answers["/"] = reply(body=b"inside")
        yield website


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1",
        "192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
        "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1",
        "2001::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_these_addresses_are_out_of_reach(address: str) -> None:
    assert not may_reach(ip_address(address), [])


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.0.1", "172.32.0.1", "192.0.1.1",
                "100.63.255.255", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::200e",
                "2001:4860:4860::8888"]
)  # fmt: skip
def test_public_addresses_are_within_reach(address: str) -> None:
    assert may_reach(ip_address(address), [])


def test_a_network_is_opened_by_name_and_alone() -> None:
    networks: list[http_guard.Network] = [IPv4Network("10.1.0.0/16"), IPv6Network("fd00::/8")]
    reachable = ["10.1.2.3", "fd12::1"]
    for address in [*reachable, "10.2.0.1", "127.0.0.1", "fe80::1", "::ffff:10.1.2.3"]:
        assert may_reach(ip_address(address), networks) == (address in reachable)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0",
     "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "127.0.0.1.", "LOCALHOST"],
)  # fmt: skip
def test_this_machine_is_refused_in_every_spelling(
    site: Website, configure: Configure, host: str
) -> None:
    configure()
    record = run(request, {"method": "GET", "url": site.url(host=host)})
    assert isinstance(record.error, Fail)
    assert "LADING_HTTP_ALLOW_NETWORKS" in str(record.error)
    assert site.asked == []


def test_a_name_that_points_inside_is_refused(site: Website) -> None:
    for inside in (["127.0.0.1"], ["10.0.0.1", "::1"], []):
        with pytest.raises(Fail, match=r"inside\.example is no public address"):
            ask(site.url(host="inside.example"), resolve=Resolver(inside))
    assert site.asked == []


def test_the_address_that_was_checked_is_the_one_connected_to(site: Website) -> None:
    """DNS rebinding: the name is resolved once, so a second answer is never used."""
    resolver = Resolver(["127.0.0.1"], ["127.0.0.99"])
    answer = ask(site.url(host="rebind.example"), IPv4Network("127.0.0.1/32"), resolve=resolver)
    assert (answer.body, resolver.asked) == ("inside", ["rebind.example"])
    assert site.asked[0].headers["host"] == f"rebind.example:{site.port}"


def test_each_hop_of_a_redirect_is_checked_anew(site: Website) -> None:
    site.answers["/"] = reply("302 Found", location="/inside")
    site.answers["/inside"] = reply(body=b"inside")
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
    with pytest.raises(Fail, match=r"127\.0\.0\.2"):
        ask(site.url(host="rebind.example"), IPv4Network("127.0.0.1/32"), resolve=resolver)
    assert [asked.target for asked in site.asked] == ["/"]


def test_only_the_addresses_within_reach_are_tried(site: Website) -> None:
    resolver = Resolver(["::1", "10.0.0.1", "127.0.0.1"])
    assert ask(site.url(host="mixed.example"), LOOPBACK, resolve=resolver).body == "inside"


def test_the_next_address_is_tried_when_one_does_not_answer(site: Website) -> None:
    resolver = Resolver(["127.0.0.77", "127.0.0.1"])  # nobody listens on the first
    assert ask(site.url(host="two.example"), LOOPBACK, resolve=resolver).body == "inside"


async def unknown(host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_without_address_is_tried_again() -> None:
    with pytest.raises(Retry, match=r"gone\.example cannot be resolved: .*not known"):
        ask("http://gone.example/", resolve=unknown)


def test_what_cannot_be_a_name_is_not_asked_for() -> None:
    with pytest.raises(Retry, match="cannot be resolved"):
        ask(f"http://{'a' * 64}.example/")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """One of the system's authorities."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    http_guard._tls.cache_clear()
    yield authority
    http_guard._tls.cache_clear()


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_certificates_are_checked_against_the_name_not_the_address(authority: trustme.CA) -> None:
    resolver = Resolver(["127.0.0.1"])
    context, names = certified(authority, "shop.example"), list[str | None]()
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with web_server(context) as site:
        site.answers["/"] = reply(body=b"secret")
        url = f"https://shop.example:{site.port}/"
        assert ask(url, LOOPBACK, resolve=resolver).body == "secret"
        assert names == ["shop.example"]
        assert site.asked[0].headers["host"] == f"shop.example:{site.port}"
        with pytest.raises(Retry, match="certificate verify failed"):
            ask(f"https://bank.example:{site.port}/", LOOPBACK, resolve=resolver)
        with pytest.raises(Retry, match="certificate verify failed"):
            ask(f"https://127.0.0.1:{site.port}/", LOOPBACK)
    assert len(site.asked) == 1


def test_a_certificate_of_nobody_is_refused() -> None:
    with web_server(certified(trustme.CA(), "127.0.0.1")) as site:
        with pytest.raises(Retry, match="certificate verify failed"):
            ask(f"https://127.0.0.1:{site.port}/", LOOPBACK)
        assert site.asked == []
