"""Standard Webhooks 1.0: what a receiver checks, and the secrets that it checks it with. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from uuid import UUID

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64  # of a secret, says the specification
_OWN_BYTES = 32  # as long as the hash: more would add nothing


def make_secret() -> str:
    """A secret that nobody has seen."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_OWN_BYTES)).decode()


def secret_bytes(text: str) -> bytes:
    """What a secret's text stands for. ValueError says what is wrong with it."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"a secret is {PREFIX} and {LEAST_BYTES} … {MOST_BYTES} bytes in base64")
    return key


def message_id(delivery_id: UUID) -> str:
    """The `webhook-id`: the same on every attempt and every replay of a delivery."""
    return f"msg_{delivery_id.hex}"


def signed(texts: Iterable[str], delivery_id: UUID, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt at `timestamp` (Unix seconds), with a signature of each secret.

    Without a secret there is no signature header.
    """
    name = message_id(delivery_id)
    headers = {"webhook-id": name, "webhook-timestamp": str(timestamp)}
    content = f"{name}.{timestamp}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(secret_bytes(text), content, hashlib.sha256)).decode()
        for text in texts
    ]
    if signatures:
        headers["webhook-signature"] = " ".join(f"v1,{each}" for each in signatures)
    return headers
