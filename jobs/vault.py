"""Secrets at rest: sealed with a key from the settings, and bound to the row they belong to.

AES-256-GCM (NIST SP 800-38D) with a key derived from the operator's text (HKDF, RFC 5869). A sealed
secret names its key, so that several may be known while they are rotated: the first one seals, all
of them open. Bound means: what is sealed for one row does not open in another.
"""

import hashlib
import secrets
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobs.errors import SecretKeyMissing
from jobs.settings import Settings

_VERSION = b"\x01"
_NAME_BYTES = 4  # of a key: enough to tell a handful apart
_NONCE_BYTES = 12  # random, what GCM is made for; safe for 2^32 secrets of one key
_PURPOSE = b"lading: secrets at rest"


class SealedOtherwise(Exception):
    """None of the keys opens it: its key was taken out of the settings, or it was tampered with."""


class Vault:
    """Seals and opens texts. Made once a process."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts` are what the operator has set, the one to seal with first; none is possible."""
        keys = [_derived(text) for text in texts]
        self._ciphers = {_name(key): AESGCM(key) for key in keys}
        self._current = _name(keys[0]) if keys else None

    @classmethod
    def of(cls, settings: Settings) -> "Vault":
        """With the keys of LADING_SECRET_KEY."""
        return cls(settings.secret_keys)

    @property
    def is_open(self) -> bool:
        """Whether there is any key."""
        return self._current is not None

    def seal(self, text: str, row_id: UUID) -> bytes:
        """The text as it may lie in that row. SecretKeyMissing."""
        if self._current is None:
            raise SecretKeyMissing
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = self._ciphers[self._current]
        return _VERSION + self._current + nonce + cipher.encrypt(nonce, text.encode(), row_id.bytes)

    def open(self, sealed: bytes, row_id: UUID) -> str:
        """The text that was sealed for that row. SecretKeyMissing, SealedOtherwise."""
        if self._current is None:
            raise SecretKeyMissing
        head = len(_VERSION) + _NAME_BYTES
        cipher = self._ciphers.get(sealed[len(_VERSION) : head])
        if cipher is None or sealed[: len(_VERSION)] != _VERSION:
            raise SealedOtherwise("none of the keys in LADING_SECRET_KEY has sealed it")
        nonce, hidden = sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, hidden, row_id.bytes).decode()
        except InvalidTag:
            raise SealedOtherwise("it was not sealed for this row, or was changed") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the key that seals now has sealed it."""
        return sealed[len(_VERSION) : len(_VERSION) + _NAME_BYTES] == self._current


def _derived(text: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(text.encode())


def _name(key: bytes) -> bytes:
    """By which a sealed text says what opens it; tells nothing about the key."""
    return hashlib.sha256(b"name" + key).digest()[:_NAME_BYTES]
