import asyncio
import base64
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import httpx2
import pytest

from kinds.http import request
from kinds.http_exchange import BODY_LIMIT, Call, as_text, exchange, retry_after, same_host
from kinds.http_guard import GuardedTransport
from lading import Fail, Retry
from lading.testing import Run, run
from tests.eventually import eventually
from tests.kinds.conftest import Configure
from tests.kinds.web_server import Asked, Website, reply, web_server


@pytest.fixture
def site(configure: Configure) -> Iterator[Website]:
    """A web server on this machine, which may be reached."""
    configure(http_allow_networks="127.0.0.0/8")
    with web_server() as website:
        yield website


def get(url: str, **args: Any) -> Run:
    return run(request, {"method": "GET", "url": url, **args})


def test_the_answer_is_the_result(site: Website) -> None:
    site.answers["/tea?n=2"] = reply(body="grün ✓".encode(), x_kind="sencha")
    record = run(request, {"method": "get", "url": site.url("/tea?n=2")})
    assert record.error is None
    assert record.result == {
        "status": 200,
        "headers": {"content-length": "9", "connection": "close", "x-kind": "sencha"},
        "body": "grün ✓",
        "truncated": False,
    }


def test_what_is_sent_is_what_was_asked_for(site: Website) -> None:
    site.answers["/orders"] = reply("201 Created")
    args = {"headers": {"Authorization": "Bearer s3cret", "X-Trace": "7"}, "json": {"tea": "grün"}}
    record = run(request, {"method": "POST", "url": site.url("/orders"), **args})
    (asked,) = site.asked
    assert (record.result["status"], asked.method) == (201, "POST")
    assert json.loads(asked.body) == {"tea": "grün"}
    sent = {name: asked.headers[name] for name in ("authorization", "x-trace", "content-type")}
    assert sent == {
        "authorization": "Bearer s3cret",
        "x-trace": "7",
        "content-type": "application/json",
    }
    assert asked.headers["host"] == f"127.0.0.1:{site.port}"
    assert asked.headers["user-agent"] == "Lading"


def test_a_body_is_sent_as_utf8_with_the_type_that_is_given(site: Website) -> None:
    site.answers["/"] = reply("204 No Content")
    args = {"headers": {"content-type": "text/csv"}, "body": "tea;grün\n"}
    record = run(request, {"method": "PUT", "url": site.url(), **args})
    assert (record.result["status"], record.result["body"]) == (204, "")
    assert site.asked[0].body == "tea;grün\n".encode()
    assert site.asked[0].headers["content-type"] == "text/csv"


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_what_is_not_idempotent_carries_the_jobs_key(site: Website, method: str) -> None:
    site.answers["/"] = reply()
    job_id = UUID(int=7)
    for attempt in (1, 2):
        run(request, {"method": method, "url": site.url()}, job_id=job_id, attempt=attempt)
    keys = {asked.headers.get("idempotency-key") for asked in site.asked}
    assert keys == {f"lading-{job_id}" if method in {"POST", "PATCH"} else None}


def test_a_key_in_the_args_stays(site: Website) -> None:
    site.answers["/"] = reply()
    headers = {"idempotency-KEY": "mine"}
    run(request, {"method": "POST", "url": site.url(), "headers": headers})
    assert site.asked[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    "status",
    ["304 Not Modified", "400 Bad Request", "401 Unauthorized", "404 Not Found", "409 Conflict"],
)
def test_an_answer_that_stands_is_a_success(site: Website, status: str) -> None:
    site.answers["/"] = reply(status, b"" if status.startswith("304") else b"because")
    record = get(site.url())
    assert record.outcome == "succeeded"
    assert record.result["status"] == int(status[:3])


@pytest.mark.parametrize(
    "status",
    ["408 Request Timeout", "425 Too Early", "429 Too Many Requests", "500 Oops", "503 Busy"],
)
def test_an_answer_that_may_be_different_soon_is_a_failure(site: Website, status: str) -> None:
    site.answers["/"] = reply(status, b"come again" + b"!" * 1000)
    record = get(site.url())
    assert isinstance(record.error, Retry)
    assert record.outcome == "retried"
    assert record.error.after is None
    assert str(record.error).startswith(f"GET 127.0.0.1: {status}: come again!!!")
    assert len(str(record.error)) < 600


def test_on_the_last_attempt_it_fails_the_job(site: Website) -> None:
    site.answers["/"] = reply("503 Busy")
    assert run(request, {"method": "GET", "url": site.url()}, failures=4).outcome == "failed"


def test_retry_after_is_honoured(site: Website) -> None:
    site.answers["/"] = reply("429 Too Many Requests", retry_after="17")
    error = get(site.url()).error
    assert isinstance(error, Retry)
    assert error.after == timedelta(seconds=17)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 1),
        (" 120 ", 120),
        ("86400", 3600),
        ("999999999999", None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read_within_bounds(value: str, seconds: int | None) -> None:
    assert retry_after(value) == (None if seconds is None else timedelta(seconds=seconds))


def test_retry_after_may_be_a_date() -> None:
    wait = retry_after(format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True))
    assert wait is not None
    assert timedelta(minutes=4, seconds=50) < wait <= timedelta(minutes=5)


def test_no_answer_in_time_is_a_failure(site: Website) -> None:
    site.answers["/"] = site.hang
    start = time.monotonic()
    record = get(site.url(), timeout=0.3)
    assert time.monotonic() - start < 5
    assert isinstance(record.error, Retry)
    assert str(record.error) == "GET 127.0.0.1: no answer within 0.3 s"


def test_the_time_holds_for_the_whole_exchange_not_for_each_byte(site: Website) -> None:
    def drip(_asked: Asked) -> bytes:
        site.silence.wait(0.2)
        return reply("302 Found", location="/")

    site.answers["/"] = drip
    record = get(site.url(), timeout=0.5)
    assert str(record.error) == "GET 127.0.0.1: no answer within 0.5 s"
    assert len(site.asked) <= 3


def test_a_refused_connection_is_a_failure(site: Website) -> None:
    with web_server() as gone:
        url = gone.url()
    record = get(url)
    assert isinstance(record.error, Retry)
    assert str(record.error).startswith("GET 127.0.0.1: ConnectError")


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"],
)
def test_half_an_answer_is_a_failure(site: Website, answer: bytes) -> None:
    site.answers["/"] = answer
    record = get(site.url())
    assert isinstance(record.error, Retry)
    assert "RemoteProtocolError" in str(record.error)


def test_a_cancelled_request_gives_its_connection_up(site: Website) -> None:
    call = Call("GET", site.url(), {}, json=None, body=None, timeout=30, idempotency_key="k")

    async def cancelled() -> None:
        task = asyncio.create_task(exchange(call, GuardedTransport([IPv4Network("127.0.0.0/8")])))
        await asyncio.to_thread(eventually, lambda: site.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    site.answers["/"] = site.hang
    start = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("size", [BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1, 5 * BODY_LIMIT])
def test_a_long_body_is_cut(site: Website, size: int) -> None:
    site.answers["/"] = reply(body=b"x" * size)
    result = get(site.url()).result
    assert len(result["body"]) == min(size, BODY_LIMIT)
    assert result["truncated"] == (size > BODY_LIMIT)


def test_a_body_without_end_is_cut_too(site: Website) -> None:
    def endless(_asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * BODY_LIMIT * 2

    site.answers["/"] = endless
    assert get(site.url()).result["truncated"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_unpacked_and_its_bomb_is_none(
    site: Website, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    site.answers["/"] = reply(body=pack("grün".encode()), content_encoding=coding)
    site.answers["/bomb"] = reply(body=pack(bytes(100 * 1024 * 1024)), content_encoding=coding)
    site.answers["/broken"] = reply(body=b"no such thing", content_encoding=coding)
    assert get(site.url()).result["body"] == "grün"
    tracemalloc.start()
    result = get(site.url("/bomb")).result
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["truncated"]
    assert peak < 20 * 1024 * 1024
    assert isinstance(get(site.url("/broken")).error, Retry)


def data_url(raw: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(raw).decode()}"


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        (b"", "utf-8", ""),
        (b"plain\r\n\ttext", "utf-8", "plain\r\n\ttext"),
        ("grün".encode("latin-1"), "ISO-8859-1", "grün"),
        ("茶".encode("shift_jis"), "Shift_JIS", "茶"),
        ("茶".encode("utf-16"), "utf-16", "茶"),
        ("grün".encode("latin-1"), "utf-8", None),
        (b"\x89PNG\r\n\x1a\n", "utf-8", None),
        (b"nul\0byte", "utf-8", None),
        (b"data:,x", "utf-8", None),
        (b"x", "no-such-charset", None),
        (b"x", "nul\0", None),
        (zlib.compress(b"x" * 1000), "zlib", None),
        (b"78", "hex", None),
        (b"abc-", "punycode", None),
        (b"\\x41", "unicode_escape", None),
    ],
)
def test_what_is_no_text_is_a_data_url(raw: bytes, charset: str, text: str | None) -> None:
    assert as_text(raw, charset, whole=True) == (data_url(raw) if text is None else text)


def test_a_character_cut_in_two_is_left_out() -> None:
    raw = "tea ✓".encode()
    assert as_text(raw[:-1], "utf-8", whole=False) == "tea "
    assert as_text(raw[:-1], "utf-8", whole=True) == data_url(raw[:-1])


def test_any_result_fits_into_its_megabyte(site: Website) -> None:
    for worst in (b"\x01", b'"', b"\n", "é".encode(), "茶".encode(), "😀".encode(), b"\xff"):
        site.answers["/"] = reply(body=worst * (BODY_LIMIT // len(worst)))
        assert len(json.dumps(get(site.url()).result)) < 1024 * 1024


def test_redirects_on_the_same_host_are_followed(site: Website) -> None:
    site.answers["/a"] = reply("301 Moved Permanently", location="/b", set_cookie="x=1")
    site.answers["/b"] = reply("307 Temporary Redirect", location=site.url("/c"))
    site.answers["/c"] = reply(body=b"here")
    record = get(site.url("/a"), headers={"Authorization": "Bearer s3cret"})
    assert (record.result["status"], record.result["body"]) == (200, "here")
    assert [asked.target for asked in site.asked] == ["/a", "/b", "/c"]
    assert {asked.headers["authorization"] for asked in site.asked} == {"Bearer s3cret"}


def test_a_post_goes_on_as_the_redirect_says(site: Website) -> None:
    site.answers["/308"] = reply("308 Permanent Redirect", location="/end")
    site.answers["/303"] = reply("303 See Other", location="/end")
    site.answers["/end"] = reply()
    for path in ("/308", "/303"):
        run(request, {"method": "POST", "url": site.url(path), "body": "tea"})
    assert [(asked.method, asked.body) for asked in site.asked if asked.target == "/end"] == [
        ("POST", b"tea"),
        ("GET", b""),
    ]


def test_a_redirect_to_another_host_is_the_answer(site: Website) -> None:
    with web_server() as other:
        places = [
            other.url("/"),
            f"http://localhost:{site.port}/",
            f"https://127.0.0.1:{site.port}/",
            f"//127.0.0.2:{site.port}/",
            "ftp://127.0.0.1/",
        ]
        for place in places:
            site.answers["/"] = reply("302 Found", location=place)
            result = get(site.url(), headers={"Authorization": "Bearer s3cret"}).result
            assert (result["status"], result["headers"]["location"]) == (302, place)
        assert other.asked == []
    assert len(site.asked) == len(places)


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ("http://shop.example/", "https://shop.example/x", True),
        ("http://shop.example:80/", "https://SHOP.example:443/x", True),
        ("https://shop.example/", "http://shop.example/", False),
        ("http://shop.example:8000/", "https://shop.example/", False),
        ("http://shop.example/", "http://shop.example:8000/", False),
        ("http://shop.example/", "http://www.shop.example/", False),
        ("http://shop.example/", "http://shop.example.evil.example/", False),
    ],
)
def test_the_https_side_of_a_host_is_the_same_host(here: str, there: str, same: bool) -> None:
    assert same_host(httpx2.URL(here), httpx2.URL(there)) == same


def test_going_round_in_circles_fails(site: Website) -> None:
    site.answers["/"] = reply("302 Found", location="/")
    record = get(site.url())
    assert isinstance(record.error, Fail)
    assert len(site.asked) == 6


def test_proxies_of_the_environment_are_not_asked(
    site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        site.answers["/"] = reply()
        assert get(site.url()).error is None
        assert proxy.asked == []
