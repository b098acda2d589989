import unicodedata
from collections.abc import Sequence
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import getaddresses
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinds.email_addresses import Mailbox
from kinds.email_letter import Letter, compose
from lading import StoredFile

ANN = Mailbox("", "ann", "example.org")
HEADERS = ["From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID"]
VISIBLE = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co"))
TEXTS = st.text(VISIBLE, max_size=80).map(
    lambda text: " ".join(unicodedata.normalize("NFC", text).split())
)
MAILBOXES = st.builds(
    Mailbox,
    TEXTS,
    st.from_regex(r"[a-z0-9+_-]{1,20}(\.[a-z]{1,9})?", fullmatch=True),
    st.sampled_from(["x.org", "xn--bcher-kva.example", "a-rather-long-name.of-a-host.example.com"]),
)


def letter(**fields: Any) -> Letter:
    usual: dict[str, Any] = {
        "job_id": uuid4(),
        "sender": ANN,
        "to": [ANN],
        "cc": [],
        "bcc": [],
        "reply_to": None,
        "subject": "Hello",
        "text": "It works.",
        "html": None,
        "attachments": [],
    }
    return Letter(**{**usual, **fields})


def decoded(text: str) -> str:
    """RFC 2047, by the older parser: the newer one of 3.11 has flaws of its own."""
    return str(make_header(decode_header(text.replace("\r\n", ""))))


def read(message: Message, header: str) -> list[Mailbox]:
    pairs = getaddresses([message[header].replace("\r\n", "")])
    return [Mailbox(decoded(name), *address.split("@")) for name, address in pairs]


@given(st.lists(MAILBOXES, min_size=1, max_size=5), TEXTS)
def test_readers_find_the_same_people_and_subject(boxes: Sequence[Mailbox], subject: str) -> None:
    raw = compose(letter(sender=boxes[0], to=boxes, cc=boxes, reply_to=boxes[-1], subject=subject))
    message = message_from_bytes(raw)
    assert message.keys()[:7] == HEADERS
    assert (read(message, "To"), read(message, "Cc")) == (boxes, boxes)
    assert (read(message, "From"), read(message, "Reply-To")) == (boxes[:1], boxes[-1:])
    assert decoded(message["Subject"]) == subject
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert not raw.replace(b"\r\n", b"").count(b"\n")


def attached(folder: Path, name: str, media_type: str, data: bytes) -> EmailMessage:
    """The mail with that one file, as a reader finds it."""
    (path := folder / "content").write_bytes(data)
    file = StoredFile(uuid4(), name, len(data), media_type, path)
    raw = compose(letter(html="<p>", attachments=[file]))
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    (attachment,) = message.iter_attachments()
    assert isinstance(attachment, EmailMessage)
    assert sorted(message.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Content-Type", "MIME-Version"]
    )
    return attachment


@pytest.mark.parametrize(
    ("media_type", "sent"),
    [
        ("text/csv", "text/csv"),
        ("Application/PDF", "application/pdf"),
        ("text/plain; charset=latin-1", "text/plain"),
        ("message/rfc822", "application/octet-stream"),
        ("multipart/mixed; boundary=x", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
        ("text/plain\r\nX-Evil: 1", "text/plain"),
    ],
)
def test_attachments_keep_type_and_bytes(tmp_path: Path, media_type: str, sent: str) -> None:
    data = bytes(range(256)) + b"\r\n.\r\n\n"
    attachment = attached(tmp_path, "a.bin", media_type, data)
    assert attachment.get_content_type() == sent
    assert attachment.get_payload(decode=True) == data
    assert attachment.get_content_disposition() == "attachment"
    assert "X-Evil" not in attachment


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("Übersicht März ✓.csv", "Übersicht März ✓.csv"),
        ('a "quoted"; name.csv', 'a "quoted"; name.csv'),
        ("a\r\nBcc: spy@example.org\0", "a__Bcc: spy@example.org_"),
        ("long" * 40, "long" * 40),
        ("lång " * 40 + ".csv", "lång " * 40 + ".csv"),
    ],
)
def test_attachments_keep_their_name(tmp_path: Path, name: str, shown: str) -> None:
    assert attached(tmp_path, name, "text/csv", b"a,b\n").get_filename() == shown


@pytest.mark.parametrize(
    "text", ["a\rb\nc\r\nd", "ü\rb", "x" * 5000, "ü" * 5000, "\n.\n", "From x\n"]
)
def test_any_text_travels_in_lines_that_servers_take(text: str) -> None:
    raw = compose(letter(text=text))
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\r" not in raw.replace(b"\r\n", b"")
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content().splitlines() == text.splitlines()
