import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme

from kinds import email_delivery
from kinds.email import send
from lading import Fail, Retry
from lading.testing import Run, run
from tests.kinds.conftest import Configure
from tests.kinds.mail_server import SILENCE, Mailbag, mail_server

HELLO = {"to": ["ann@example.org"], "subject": "Hello", "text": "It works.\n"}
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.mark.parametrize(
    "reply", ["550 5.1.1 No such user here", "451 4.7.1 Greylisted, try later"]
)
def test_a_refused_only_recipient_ends_the_attempt_with_the_servers_words(
    server: Mailbag, reply: str
) -> None:
    server.replies["ann@example.org"] = reply
    record = run(send, HELLO)
    assert isinstance(record.error, Fail if reply.startswith("5") else Retry)
    assert str(record.error) == f"ann@example.org: {reply}"
    assert server.mails == []


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [("554 5.7.1 Looks like spam", "failed"), ("452 4.3.1 Disk is full", "retried")],
)
def test_a_refused_mail_ends_the_attempt(
    server: Mailbag, command: str, reply: str, outcome: str
) -> None:
    server.replies[command] = reply
    record = run(send, HELLO)
    assert record.outcome == outcome
    assert str(record.error).endswith(reply)
    assert record.steps == {}


def test_who_is_refused_for_good_does_not_keep_the_mail_from_the_others(server: Mailbag) -> None:
    server.replies["gone@example.org"] = "550 5.1.1 Gone"
    record = run(send, {**HELLO, "cc": ["gone@example.org"]})
    assert record.outcome == "succeeded"
    assert record.result["accepted"] == ["ann@example.org"]
    assert record.result["refused"] == {"gone@example.org": "550 5.1.1 Gone"}
    assert server.mails[0].rcpt_tos == ["ann@example.org"]


def test_one_refused_for_now_and_none_accepted_is_tried_again(server: Mailbag) -> None:
    server.replies |= {"ann@example.org": "550 Gone", "bob@example.org": "450 Busy"}
    record = run(send, {**HELLO, "cc": ["bob@example.org"]})
    assert isinstance(record.error, Retry)
    assert str(record.error) == "bob@example.org: 450 Busy"


class Several:
    """Attempts of one job: what one stored, the next one finds."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args, self.job_id = args, uuid4()
        self.steps: dict[str, Any] = {}
        self.attempts = 0

    def go(self, *, failures: int | None = None) -> Run:
        self.attempts += 1
        failed = self.attempts - 1 if failures is None else failures
        record = run(send, self.args, job_id=self.job_id, attempt=self.attempts, failures=failed,
                     steps=self.steps)  # fmt: skip
        self.steps = record.steps
        return record


def test_trying_again_for_some_leaves_in_peace_who_has_the_mail(server: Mailbag) -> None:
    server.replies |= {"bob@example.org": "450 Busy", "cid@example.org": "450 Busy"}
    server.replies["dan@example.org"] = "550 Gone"
    job = Several({**HELLO, "cc": ["bob@example.org", "cid@example.org", "dan@example.org"]})
    assert job.go().outcome == "retried"
    assert job.go().outcome == "retried"  # still busy: nobody is reached, nothing is stored
    del server.replies["bob@example.org"]
    assert job.go().outcome == "retried"
    del server.replies["cid@example.org"]
    record = job.go()
    assert record.result["accepted"] == ["ann@example.org", "bob@example.org", "cid@example.org"]
    assert record.result["refused"] == {"dan@example.org": "550 Gone"}
    assert [mail.rcpt_tos for mail in server.mails] == [
        ["ann@example.org"],
        ["bob@example.org"],
        ["cid@example.org"],
    ]
    assert list(job.steps) == ["round 1", "round 2"]
    assert len({server.parsed(n)["Message-ID"] for n in range(3)}) == 1


def test_on_the_last_attempt_the_unreached_end_among_the_refused(server: Mailbag) -> None:
    server.replies["bob@example.org"] = "450 Busy"
    job = Several({**HELLO, "cc": ["bob@example.org"]})
    assert job.go().outcome == "retried"
    record = job.go(failures=11)
    assert record.outcome == "succeeded"
    assert record.result["accepted"] == ["ann@example.org"]
    assert record.result["refused"] == {"bob@example.org": "450 Busy"}
    assert len(server.mails) == 1


def test_a_server_that_is_gone_on_the_last_attempt_is_told_of_the_unreached(
    server: Mailbag, configure: Configure, free_port: int
) -> None:
    server.replies["bob@example.org"] = "450 Busy"
    job = Several({**HELLO, "cc": ["bob@example.org"]})
    job.go()
    configure(smtp_port=free_port)
    assert job.go().outcome == "retried"
    record = job.go(failures=11)
    assert record.result["accepted"] == ["ann@example.org"]
    assert "ConnectionRefusedError" in record.result["refused"]["bob@example.org"]


def test_nobody_reached_on_the_last_attempt_is_a_failure(server: Mailbag) -> None:
    server.replies["ann@example.org"] = "450 Busy"
    assert run(send, HELLO, attempt=12, failures=11).outcome == "failed"


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_a_refused_connection_is_tried_again(configure: Configure, free_port: int) -> None:
    configure(smtp_port=free_port)
    record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert f"127.0.0.1:{free_port}: ConnectionRefusedError" in str(record.error)


def test_a_server_that_says_nothing_is_not_waited_for_long(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email_delivery, "REPLY_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(smtp_port=silent.getsockname()[1])
        record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert "timed out" in str(record.error)


@pytest.mark.parametrize("limit", ["of one reply", "of the conversation"])
def test_no_command_is_waited_for_long(
    server: Mailbag, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "of one reply":
        monkeypatch.setattr(email_delivery._Smtp, "reply_within", 0.2)
    else:
        monkeypatch.setattr(email_delivery, "ALL_WITHIN", 0.5)
    server.replies["ann@example.org"] = SILENCE
    record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert "timed out" in str(record.error)


def test_a_conversation_has_an_end(server: Mailbag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_delivery, "ALL_WITHIN", 0.0)
    record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert "longer than" in str(record.error)


def test_a_connection_lost_before_the_last_reply_is_tried_again(server: Mailbag) -> None:
    server.drop_after_data = True
    record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert "SMTPServerDisconnected" in str(record.error)


def test_nothing_after_the_servers_yes_is_a_failure(server: Mailbag) -> None:
    server.replies["QUIT"] = "421 Go away"
    record = run(send, HELLO)
    assert (record.outcome, len(server.mails)) == ("succeeded", 1)


def test_a_server_that_closes_in_between_has_accepted_nobody(server: Mailbag) -> None:
    server.replies["bob@example.org"] = "421 4.3.2 Shutting down"
    record = run(send, {**HELLO, "cc": ["bob@example.org"]})
    assert isinstance(record.error, Retry)
    assert "421 4.3.2 Shutting down" in str(record.error)
    assert (server.mails, record.steps) == ([], {})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The authority is one of the system's."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    email_delivery._tls.cache_clear()
    yield
    email_delivery._tls.cache_clear()


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_mail_goes_through_verified_tls_with_a_login(
    trusted: None, certificate: ssl.SSLContext, configure: Configure, security: str
) -> None:
    with mail_server(login=True, **{security: certificate}) as bag:  # type: ignore[arg-type]
        configure(smtp_port=bag.port, smtp_security=security,
                  smtp_username="lading", smtp_password="open sesame")  # fmt: skip
        assert run(send, HELLO).error is None
        (session,) = bag.sessions
    assert session.authenticated
    assert (session.ssl is not None) == (security == "starttls")
    assert len(bag.mails) == 1


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_an_unknown_certificate_gets_no_mail(
    certificate: ssl.SSLContext, configure: Configure, security: str
) -> None:
    with mail_server(**{security: certificate}) as bag:  # type: ignore[arg-type]
        configure(smtp_port=bag.port, smtp_security=security)
        record = run(send, HELLO)
    assert isinstance(record.error, Retry)
    assert "certificate verify failed" in str(record.error)
    assert bag.mails == []


def test_a_server_without_starttls_gets_no_mail(server: Mailbag, configure: Configure) -> None:
    configure(smtp_security="starttls")
    record = run(send, HELLO)
    assert isinstance(record.error, Fail)
    assert "STARTTLS" in str(record.error)
    assert server.mails == []


def test_a_wrong_password_fails_without_showing_it(configure: Configure) -> None:
    with mail_server(login=True) as bag:
        for password, said in (("swordfish", "535 5.7.8"), ("schlüssel", "must be ASCII")):
            configure(smtp_port=bag.port, smtp_username="lading", smtp_password=password)
            record = run(send, HELLO)
            assert isinstance(record.error, Fail)
            assert said in str(record.error)
            assert password not in str(record.error)
    assert bag.mails == []


def test_letters_before_the_at_sign_need_a_server_that_knows_them(configure: Configure) -> None:
    args = {**HELLO, "to": ["Jürgen <jürgen@bücher.example>"]}
    with mail_server() as bag:
        configure(smtp_port=bag.port)
        record = run(send, args)
        assert record.result["accepted"] == ["jürgen@xn--bcher-kva.example"]
        assert "SMTPUTF8" in bag.mails[0].mail_options
        assert "jürgen@xn--bcher-kva.example".encode() in bag.content()
    with mail_server(smtputf8=False) as bag:
        configure(smtp_port=bag.port)
        record = run(send, args)
    assert isinstance(record.error, Fail)
    assert "SMTPUTF8" in str(record.error)
    assert bag.mails == []
