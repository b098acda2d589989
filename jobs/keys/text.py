"""A key as text: `lading_`, 10 characters of id, 30 of secret, 6 of checksum, all base 62.

A double click selects it, a scanner for leaked secrets finds it, and a mistyped one is refused
before anybody asks the database (the form of GitHub's tokens).
"""

import hashlib
import secrets
import string
import zlib
from typing import NamedTuple

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX = "lading_"
_ID_LENGTH = 10
_SECRET_LENGTH = 30  # characters: 178 random bits, so that a plain hash of it is safe at rest
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
_LENGTH = len(_PREFIX) + _ID_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH


class KeyText(NamedTuple):
    """A key that is well formed; whether anybody knows it is another question."""

    text: str
    id: str  #: the public part
    hash: bytes  #: SHA-256 of the whole


def make_key() -> KeyText:
    """A key that nobody has seen."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH + _SECRET_LENGTH))
    return _key(f"{_PREFIX}{body}{_checksum(body)}")


def parse_key(text: str) -> KeyText | None:
    """The key, or None where its form or its checksum is not that of one."""
    if len(text) != _LENGTH or not text.isascii() or not text.startswith(_PREFIX):
        return None
    body = text[len(_PREFIX) : -_CHECKSUM_LENGTH]
    return _key(text) if text.endswith(_checksum(body)) else None


def shown(key_id: str) -> str:
    """The beginning of a key, by which people tell theirs apart."""
    return f"{_PREFIX}{key_id}"


def _key(text: str) -> KeyText:
    start = len(_PREFIX)
    return KeyText(text, text[start : start + _ID_LENGTH], hashlib.sha256(text.encode()).digest())


def _checksum(body: str) -> str:
    """CRC-32 in base 62, padded."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
