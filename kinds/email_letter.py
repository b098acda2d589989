"""A mail as bytes: RFC 5322 headers, MIME parts, and nothing that needs more than ASCII to travel.

Bcc is the envelope's alone. The Message-ID is that of the job, so that a mail that was sent twice
is one mail to whoever looks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, quote
from uuid import UUID

from kinds.email_addresses import Mailbox
from lading import StoredFile

MEDIA_TYPE = re.compile(r"([\w.+-]+)/([\w.+-]+)", re.ASCII)
# Their parts would have to be parsed and encoded anew (RFC 2046 §5); as bytes they arrive whole.
COMPOSITE = frozenset({"message", "multipart"})
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says, and to whom."""

    job_id: UUID
    sender: Mailbox
    to: Sequence[Mailbox]
    cc: Sequence[Mailbox]
    bcc: Sequence[Mailbox]
    reply_to: Mailbox | None
    subject: str
    text: str | None
    html: str | None
    attachments: Sequence[StoredFile]

    @property
    def message_id(self) -> str:
        """The same on every attempt, angle brackets included."""
        return f"<{self.job_id}@{self.sender.domain}>"

    @property
    def recipients(self) -> list[str]:
        """The addresses of the envelope, each once."""
        return list(dict.fromkeys(box.address for box in (*self.to, *self.cc, *self.bcc)))

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address of it is not to be written in ASCII."""
        shown = (self.sender, *self.to, *self.cc, *self.bcc, self.reply_to)
        return any(box is not None and box.needs_smtputf8 for box in shown)


def compose(letter: Letter) -> bytes:
    """The mail, lines ended by CRLF; parts of 7 bits, so that 8BITMIME is not asked for."""
    content = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    _add_content(content, letter)
    headers = "".join(f"{name}: {value}\r\n" for name, value in _headers(letter))
    return headers.encode() + content.as_bytes()


def _headers(letter: Letter) -> Iterator[tuple[str, str]]:
    """What people read, in lines of at most 998 octets.

    Not left to EmailMessage: folding a list of addresses, Python 3.11 encodes a comma between two
    of them when a name beside it is not ASCII, and they become one.
    """
    yield "From", _addresses([letter.sender])
    yield "To", _addresses(letter.to)
    if letter.cc:
        yield "Cc", _addresses(letter.cc)
    if letter.reply_to:
        yield "Reply-To", _addresses([letter.reply_to])
    yield "Subject", _words(letter.subject)
    yield "Date", format_datetime(datetime.now(UTC))
    yield "Message-ID", letter.message_id


def _addresses(boxes: Sequence[Mailbox]) -> str:
    return ",\r\n ".join(map(_address, boxes))


def _address(box: Mailbox) -> str:
    if not box.name:
        return box.address
    words = _words(box.name)
    return (
        f"{words}\r\n <{box.address}>" if words != box.name else f'"{quote(words)}" <{box.address}>'
    )


def _words(text: str) -> str:
    """The text itself, or in encoded words (RFC 2047) when it is not ASCII or looks like them."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8", maxlinelen=72).encode(splitchars="", linesep="\r\n")


def _add_content(message: EmailMessage, letter: Letter) -> None:
    if letter.text is not None:
        message.set_content(letter.text)
        if letter.html is not None:
            message.add_alternative(letter.html, subtype="html")
    elif letter.html is not None:
        message.set_content(letter.html, subtype="html")
    for file in letter.attachments:
        main, sub = _media_type(file.media_type)
        name = CONTROLS.sub("_", file.name)
        message.add_attachment(file.path.read_bytes(), maintype=main, subtype=sub, filename=name)


def _media_type(value: str) -> tuple[str, str]:
    match = MEDIA_TYPE.match(value)
    if match is None or match[1].lower() in COMPOSITE:
        return "application", "octet-stream"
    return match[1].lower(), match[2].lower()
