import json
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dev.mail import render_page
from dev.mailbox import Mailbox
from dev.ports import free_port, is_open
from tests.eventually import eventually

KEYS = {"id", "from", "to", "subject", "text", "html", "message_id", "at"}


class Catcher(NamedTuple):
    smtp: int
    http: int
    folder: Path

    def send(self, message: EmailMessage, to: list[str] | None = None) -> None:
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=30) as client:
            assert client.send_message(message, to_addrs=to) == {}

    def get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
        connection.close()
        return status, body

    def mails(self) -> list[dict[str, Any]]:
        status, body = self.get("/messages")
        assert status == 200
        mails: list[dict[str, Any]] = json.loads(body)
        return mails


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Catcher]:
    catcher = Catcher(free_port(), free_port(), folder)
    command = [sys.executable, "-m", "dev.mail", "--dir", str(folder)]
    command += ["--smtp-port", str(catcher.smtp), "--http-port", str(catcher.http)]
    process = subprocess.Popen(command)
    eventually(lambda: is_open(catcher.smtp) and is_open(catcher.http))
    return process, catcher


@pytest.fixture(scope="module")
def catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    process, catcher = start(tmp_path_factory.mktemp("mail"))
    yield catcher
    process.terminate()
    assert process.wait(30) == 0


def a_mail(subject: str, text: str = "Hello\n", html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ada Löve <ada@example.com>"
    message["To"] = "grace@example.com, Edsger <edsger@example.com>"
    message["Subject"] = subject
    message["Message-ID"] = "<1@example.com>"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message


def test_a_mail_is_listed_as_the_contract_says(catcher: Catcher) -> None:
    catcher.send(a_mail("Grüße ✓", "Ein Gruß\n", "<p>Ein <b>Gruß</b></p>\n"))
    mail = next(mail for mail in catcher.mails() if mail["subject"] == "Grüße ✓")
    assert mail.keys() == KEYS
    assert mail["from"] == "Ada Löve <ada@example.com>"
    assert mail["to"] == ["grace@example.com", "edsger@example.com"]
    assert (mail["text"], mail["html"]) == ("Ein Gruß\n", "<p>Ein <b>Gruß</b></p>\n")
    assert mail["message_id"] == "<1@example.com>"
    assert mail["at"].endswith("Z")


def test_the_file_holds_the_very_bytes_that_were_sent(catcher: Catcher) -> None:
    catcher.send(a_mail("bytes", "one\n.two begins with a dot\n" + "long " * 400 + "\n"))
    mail = next(mail for mail in catcher.mails() if mail["subject"] == "bytes")
    expected = a_mail("bytes", "one\n.two begins with a dot\n" + "long " * 400 + "\n")
    source = (catcher.folder / f"{mail['id']}.eml").read_bytes()
    assert source == expected.as_bytes(policy=expected.policy.clone(linesep="\r\n"))
    assert catcher.get(f"/messages/{mail['id']}") == (200, source)


def test_a_blind_copy_is_among_the_recipients(catcher: Catcher) -> None:
    catcher.send(a_mail("blind"), to=["grace@example.com", "blind@example.com"])
    mail = next(mail for mail in catcher.mails() if mail["subject"] == "blind")
    assert mail["to"] == ["grace@example.com", "blind@example.com"]


def test_mails_are_listed_in_the_order_of_their_arrival(catcher: Catcher) -> None:
    subjects = [f"number {number}" for number in range(5)]
    for subject in subjects:
        catcher.send(a_mail(subject))
    assert [m["subject"] for m in catcher.mails() if m["subject"] in subjects] == subjects


def test_the_page_shows_a_mail_and_runs_nothing_of_it(catcher: Catcher) -> None:
    catcher.send(a_mail("<script>alert(1)</script>", html='<p>"Hi"</p><script>1</script>'))
    status, body = catcher.get("/")
    page = body.decode()
    assert status == 200
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page
    assert 'sandbox srcdoc="&lt;p&gt;&quot;Hi&quot;' in page


def test_an_empty_mailbox_has_a_page_too() -> None:
    assert "0 mails caught" in render_page([])


@pytest.mark.parametrize("path", ["/favicon.ico", "/messages/x", "/messages/..%2f..%2fkey"])
def test_any_other_page_is_not_found(catcher: Catcher, path: str) -> None:
    (catcher.folder.parent / "key.eml").write_bytes(b"secret")
    assert catcher.get(path)[0] == 404
    assert catcher.get("/messages/..%2fkey")[0] == 404


def test_mails_are_there_again_after_a_kill(tmp_path: Path) -> None:
    process, catcher = start(tmp_path / "mail")
    assert catcher.mails() == []
    catcher.send(a_mail("kept"))
    before = catcher.mails()
    process.kill()
    process.wait()
    process, catcher = start(tmp_path / "mail")
    try:
        assert catcher.mails() == before
    finally:
        process.terminate()
        process.wait()


def test_a_file_that_somebody_has_put_there_is_listed_and_a_removed_one_is_not(
    tmp_path: Path,
) -> None:
    mailbox = Mailbox(tmp_path)
    (tmp_path / "mine.eml").write_bytes(a_mail("by hand").as_bytes())
    (mail,) = mailbox.list_mails()
    assert mail["to"] == ["grace@example.com", "edsger@example.com"]
    (tmp_path / "mine.eml").unlink()
    assert mailbox.list_mails() == []


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"no header at all",
        b"Subject: =?utf-8?q?broken=ZZ?=\r\nTo: <\r\n\r\nhello",
        b"Content-Type: text/plain; charset=klingon\r\n\r\nhello",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"\xff\xfe\x00",
    ],
)
def test_a_malformed_mail_hides_no_other_one(tmp_path: Path, source: bytes) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.add("ada@example.com", ("grace@example.com",), source)
    mailbox.add("ada@example.com", ("grace@example.com",), a_mail("fine").as_bytes())
    broken, fine = mailbox.list_mails()
    assert fine["subject"] == "fine"
    assert broken.keys() == KEYS
    assert render_page([broken, fine])
