"""Addresses of people: what is accepted, and how it is written in an envelope.

Any address that a mail server could know is good, `root@localhost` and those of an intranet too:
whether it exists, the server says.
"""

import re
import unicodedata
from dataclasses import dataclass

LOCAL_OCTETS = 64  # RFC 5321 §4.5.3.1.1
PATH_OCTETS = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
LOCAL = re.compile(rf"{_ATOM}(\.{_ATOM})*")  # dot-string, RFC 5321 §4.1.2 and RFC 6531 §3.3
LABELS = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?")  # RFC 1123
DISPLAY_LENGTH = 200  # characters
# Line and paragraph separators end a line for some readers, as control characters do.
BREAKS = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Somebody's address. `domain` is in ASCII: other letters as RFC 5891 encodes them."""

    name: str  #: as shown to people; may be empty
    local: str
    domain: str

    @property
    def address(self) -> str:
        """As the envelope has it."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can be given this address."""
        return not self.local.isascii()


def one_line(text: str) -> str:
    """The same text; ValueError when a header with it would be more than one line."""
    if any(unicodedata.category(character) in BREAKS for character in text):
        raise ValueError("control characters and line breaks are refused")
    return text


def parse_mailbox(text: str) -> Mailbox:
    """`ann@example.org` or `Ann <ann@example.org>`; ValueError says what is wrong with it."""
    name, address = "", one_line(text).strip()
    if address.endswith(">"):
        name, opened, address = address[:-1].rpartition("<")
        if not opened:
            raise ValueError("an address in angle brackets begins with one")
    local, at, domain = address.strip().rpartition("@")
    if not at:
        raise ValueError("an address has the form name@domain")
    mailbox = Mailbox(_display(name.strip()), _local(local), _domain(domain))
    if len(mailbox.address.encode()) > PATH_OCTETS:
        raise ValueError(f"an address has at most {PATH_OCTETS} octets")
    return mailbox


def _display(name: str) -> str:
    if len(name) > DISPLAY_LENGTH:
        raise ValueError(f"a display name has at most {DISPLAY_LENGTH} characters")
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return unicodedata.normalize("NFC", name)


def _local(local: str) -> str:
    local = unicodedata.normalize("NFC", local)
    visible = all(unicodedata.category(character)[0] not in "CZ" for character in local)
    if not visible or not LOCAL.fullmatch(local) or len(local.encode()) > LOCAL_OCTETS:
        raise ValueError(f"bad part before the @: letters, digits and dots, ≤ {LOCAL_OCTETS}")
    return local


def _domain(domain: str) -> str:
    import idna  # noqa: PLC0415 - its tables: the api reads schemas mostly

    try:
        ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ValueError(f"bad domain: {error}") from error
    if not LABELS.fullmatch(ascii_domain):
        raise ValueError("bad domain: a host name is expected")
    return ascii_domain
