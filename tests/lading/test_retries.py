"""What is sent again, and what must not be."""

import socket
import threading
import time
from uuid import uuid4

import pytest

from dev.ports import free_port
from lading import Client, NewJob, NotFound, Unreachable
from lading.client import ServerError, TooManyRequests, Unavailable
from lading.client.exchange import Answer, Lost, Repeat, Request
from lading.client.trying import BASE, CAP, Trying
from tests.api.relay import relay
from tests.api.serving import Api
from tests.kinds_for_tests import echo
from tests.lading.gateway import Canned, gateway
from tests.lading.handwork import Background

PROBLEM = {"Content-Type": "application/problem+json"}


def problem(code: str, status: int, **headers: str) -> Canned:
    body = f'{{"status": {status}, "code": "{code}", "detail": "no", "request_id": "r"}}'
    return Canned(status, {**PROBLEM, **headers}, body.encode())


def test_a_submission_whose_answer_was_lost_makes_one_job(api: Api) -> None:
    label = {"lost": str(uuid4())}
    with relay(int(api.url.rpartition(":")[2])) as between:
        with Client(f"http://127.0.0.1:{between.port}", api.key) as client:
            between.lose_reply_to(b"POST /v1/jobs")
            job = client.submit(echo, labels=label)
            assert between.lost == 1
        with Client(api.url, api.key) as client:
            assert [each.id for each in client.list(labels=label)] == [job.id]


@pytest.mark.parametrize(
    "answer",
    [
        Canned(502, {}, b"Bad Gateway"),
        Canned(503, {"Retry-After": "0"}, b""),
        Canned(504, {}, b""),
        Canned(429, {"Retry-After": "0"}, b""),
        problem("database-unavailable", 503),
        problem("idempotency-in-flight", 409),
    ],
    ids=["502", "503", "504", "429", "problem-503", "twin"],
)
def test_a_submission_is_sent_again_with_the_same_key(api: Api, answer: Canned) -> None:
    label = {"again": str(uuid4())}
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        between.next.extend([answer, answer])
        client.submit(echo, labels=label)
        posts = between.requests("POST")
        assert len(posts) == 3
        assert len({each.headers["idempotency-key"] for each in posts}) == 1
        assert len([*client.list(labels=label)]) == 1


def test_lost_batches_and_reruns_are_made_once(api: Api) -> None:
    label = {"batch": str(uuid4())}
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        between.loses_next = 1
        made = client.submit_many([NewJob(echo, labels=label)] * 3)
        between.loses_next = 1
        again = client.rerun(made[0])
        assert between.loses_next == 0
        listed = {each.id for each in client.list(labels=label)}
        assert listed == {*(each.id for each in made), again.id}


def test_a_retry_after_is_waited_for(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        between.next.append(Canned(503, {"Retry-After": "1"}, b""))
        began = time.monotonic()
        client.queues()
        assert time.monotonic() - began >= 1


def test_a_retry_after_beyond_the_patience_is_not_waited_for(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key, patience=5) as client:
        between.next.append(problem("overloaded", 503, **{"Retry-After": "60"}))
        with pytest.raises(Unavailable) as caught:
            client.queues()
        assert isinstance(caught.value, Unreachable)
        assert (caught.value.code, caught.value.request_id) == ("overloaded", "r")
        assert len(between.seen) == 1


def test_refusals_are_final(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        for answer, error in (
            (problem("job-not-found", 404), NotFound),
            (problem("internal-error", 500), ServerError),
        ):
            between.next.append(answer)
            with pytest.raises(error):
                client.get(uuid4())
        assert len(between.seen) == 2


def test_a_move_that_may_have_been_done_is_not_done_again(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        job = client.submit(echo)
        client.cancel(job)
        between.loses_next = 1
        with pytest.raises(Unreachable, match="may have been done"):
            client.retry(job)
        assert client.get(job).state == "queued"
        between.next.append(Canned(502, {}, b""))
        with pytest.raises(Unavailable):
            client.run_now(job)
        assert len(between.requests("POST")) == 4


def test_a_move_that_was_not_begun_is_sent_again(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        job = client.submit(echo, delay=3600)
        between.next.append(problem("draining", 503, **{"Retry-After": "0"}))
        assert client.run_now(job).state == "queued"


def test_a_cancel_and_a_delete_are_safe_to_repeat(api: Api) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        job = client.submit(echo)
        between.loses_next = 1
        assert client.cancel(job).state == "cancelled"
        between.loses_next = 1
        client.delete(job)
        with pytest.raises(NotFound):
            client.delete(job)


def test_a_server_that_comes_late_is_waited_for(api: Api, background: Background) -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", api.key) as client:
        tried = threading.Event()

        def come_late() -> None:
            tried.wait(10)
            with socket.create_server(("127.0.0.1", port)) as listening:
                connection, _ = listening.accept()
                connection.recv(65536)
                body = b'{"items": []}'
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body)
                connection.close()

        background(come_late)
        threading.Timer(0.3, tried.set).start()
        assert client.workers() == []


def test_what_was_never_sent_may_always_be_sent_again() -> None:
    moved = Request("POST", "/v1/jobs/x/retry", repeat=Repeat.IF_REFUSED)
    refused = Lost(ConnectionRefusedError(), was_sent=False)
    assert Trying(60).pause_after(moved, refused) <= 2 * BASE
    with pytest.raises(Unreachable):
        Trying(60).pause_after(moved, Lost(ConnectionResetError(), was_sent=True))
    with pytest.raises(Unreachable):
        Trying(60).pause_after(
            Request("GET", "/"), Lost(OSError(), was_sent=False, is_hopeless=True)
        )


def test_waits_grow_to_a_limit_and_begin_anew_after_a_success() -> None:
    trying = Trying(1e9)
    pauses = [trying.next_pause() for _ in range(200)]
    assert all(pause <= min(CAP, BASE * 2 ** (n + 1)) for n, pause in enumerate(pauses[:10]))
    assert max(pauses) > CAP / 2
    assert max(pauses) <= CAP
    trying.succeeded()
    assert trying.next_pause() <= 2 * BASE


def test_the_patience_begins_with_the_first_failure() -> None:
    now = 0.0
    trying = Trying(10, clock=lambda: now)
    lost = Lost(ConnectionResetError(), was_sent=True)
    now = 1000.0
    trying.pause_after(Request("GET", "/"), lost)
    now = 1011.0
    with pytest.raises(Unreachable):
        trying.pause_after(Request("GET", "/"), lost)
    trying.heard()
    trying.pause_after(Request("GET", "/"), lost)


def test_too_many_requests_has_a_name() -> None:
    answer = Answer(429, {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"})
    with pytest.raises(TooManyRequests):
        Trying(60).pause_after(Request("GET", "/"), answer)
