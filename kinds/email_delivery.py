"""One conversation with the mail server (RFC 5321): whom it took the mail for, and whom it did not.

A reply of 5xx is for good, anything else that is no success may be different later. A mail counts
as sent once the server has taken its last dot; nothing that happens afterwards is a failure.
"""

import math
import smtplib
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from jobs.settings import Settings
from lading import Fail, Retry

REPLY_WITHIN = 60.0  # seconds for one command; a slow server checks names in black lists meanwhile
ALL_WITHIN = 240.0  # seconds for the conversation; below the hard limit of the kind
QUIT_WITHIN = 5.0  # seconds; it is courtesy only
DONE, FOR_GOOD = 2, 5  # the first digit of a reply (RFC 5321 §4.2.1)
CLOSING = 421  # whatever was in progress is given up (§3.8)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A mail, and who sends it."""

    content: bytes
    sender: str
    needs_smtputf8: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of each recipient; the server's words beside those it did not take."""

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  #: for good
    later: dict[str, str] = field(default_factory=dict)  #: these may be tried again
    reply: str = ""  #: the server's last word, often with its own id of the mail


def deliver(parcel: Parcel, recipients: Sequence[str], settings: Settings) -> Delivery:
    """The server has the mail for those who are `accepted`; without any, it has none.

    Fail or Retry, with its words, when it did not come to that. Its last reply may be lost on the
    way: then it has the mail, and gets it again (Retry).
    """
    place = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        with _session(settings) as smtp:
            return _transact(smtp, parcel, recipients)
    except smtplib.SMTPResponseException as error:
        message = f"{place}: {_words(error.smtp_code, error.smtp_error)}"
        outcome = Fail if error.smtp_code // 100 == FOR_GOOD else Retry
        raise outcome(message) from error
    except smtplib.SMTPNotSupportedError as error:
        raise Fail(f"{place}: {error}") from error
    except OSError as error:  # SMTPException is one, and so are timeouts and TLS errors
        raise Retry(f"{place}: {type(error).__name__}: {error}") from error


class _Smtp(smtplib.SMTP):
    """smtplib's, with a limit for the whole conversation besides the one for a reply."""

    reply_within = REPLY_WITHIN
    deadline = math.inf  # by the monotonic clock

    def send(self, s: Any) -> None:
        """As smtplib does; the reply may take as long as is left for it."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the conversation took longer than {ALL_WITHIN:g} s")
        if self.sock is not None:
            self.sock.settimeout(min(left, self.reply_within))
        super().send(s)

    def data(self, msg: Any) -> tuple[int, bytes]:
        """As smtplib does, with patience: an answer given up on sends the mail twice."""
        self.reply_within = ALL_WITHIN
        return super().data(msg)


class _SmtpInTls(_Smtp, smtplib.SMTP_SSL):
    """The same inside TLS from the first byte."""


@contextmanager
def _session(settings: Settings) -> Iterator[_Smtp]:
    """A conversation as far as its first mail: encrypted and logged in, where that is set."""
    deadline = time.monotonic() + ALL_WITHIN
    smtp = _connect(settings)
    smtp.deadline = deadline
    try:
        if settings.smtp_security == "starttls":
            smtp.starttls(context=_tls())
        smtp.ehlo_or_helo_if_needed()
        if settings.smtp_username is not None:
            _log_in(smtp, settings)
        yield smtp
    finally:
        smtp.reply_within = QUIT_WITHIN
        with suppress(OSError):
            smtp.docmd("QUIT")
        smtp.close()


def _connect(settings: Settings) -> _Smtp:
    host, port, name = settings.smtp_host, settings.smtp_port, _own_name()
    if settings.smtp_security == "tls":
        return _SmtpInTls(host, port, name, timeout=REPLY_WITHIN, context=_tls())
    return _Smtp(host, port, name, timeout=REPLY_WITHIN)


def _log_in(smtp: smtplib.SMTP, settings: Settings) -> None:
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
    try:
        smtp.login(settings.smtp_username or "", password)
    except UnicodeError:  # its message would show a character of it
        raise Fail("user name and password for the mail server must be ASCII") from None


def _transact(smtp: smtplib.SMTP, parcel: Parcel, recipients: Sequence[str]) -> Delivery:
    options = [f"size={len(parcel.content)}"] if smtp.has_extn("size") else []
    if parcel.needs_smtputf8:
        options.append("smtputf8")
    code, words = smtp.mail(parcel.sender, options)
    if code // 100 != DONE:
        raise smtplib.SMTPSenderRefused(code, words, parcel.sender)
    delivery = Delivery()
    for recipient in recipients:
        _sort(delivery, recipient, *smtp.rcpt(recipient))
    if not delivery.accepted:
        return delivery
    code, words = smtp.data(parcel.content)
    if code // 100 != DONE:
        raise smtplib.SMTPDataError(code, words)
    return replace(delivery, reply=_words(code, words))


def _sort(delivery: Delivery, recipient: str, code: int, words: bytes) -> None:
    if code // 100 == DONE:
        delivery.accepted.append(recipient)
    elif code == CLOSING:
        raise smtplib.SMTPResponseException(code, words)
    elif code // 100 == FOR_GOOD:
        delivery.refused[recipient] = _words(code, words)
    else:
        delivery.later[recipient] = _words(code, words)


def _words(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {' '.join(text.split())}"


@cache
def _tls() -> ssl.SSLContext:
    """Certificates are verified. Read once a process: loading them takes longer than a mail."""
    return ssl.create_default_context()


@cache
def _own_name() -> str:
    """What this machine calls itself to a server; found once, as it may ask a name server."""
    return smtplib.SMTP().local_hostname
