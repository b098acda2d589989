"""Headers that say when and how to answer: ETag, If-None-Match, Prefer, Idempotency-Key."""

import re

from starlette.datastructures import Headers

from api.problems import Problem

LONGEST_WAIT = 30.0  # seconds; most proxies give up after 60
_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?")
_MOST_OF_KEY = 255  # characters
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x7e][\x20-\x7e]*")


def etag(version: int) -> str:
    """The entity tag of a job's version."""
    return f'"{version}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has that version already (RFC 9110 §13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag.strip('"') in _TAG.findall(if_none_match)


def preferred_wait(headers: Headers) -> int | None:
    """The seconds of `Prefer: wait=N`, at most 30; what else is preferred is ignored (RFC 7240)."""
    given = headers.getlist("prefer")
    if not given:
        return None
    for preference in ",".join(given).split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip().lower())
        if found:
            return min(int(found[1]), int(LONGEST_WAIT))
    return None


def idempotency_key(headers: Headers) -> str | None:
    """The key: a string in quotes (RFC 9651 §3.3.3), or as it stands. Problem 400."""
    header = headers.get("idempotency-key")
    if header is None:
        return None
    text = header.strip(" \t")
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not (quoted or _BARE.fullmatch(text)) or not 0 < len(key) <= _MOST_OF_KEY:
        detail = (
            f"Idempotency-Key takes 1 to {_MOST_OF_KEY} printable ASCII characters,"
            " as they are or as a string in double quotes."
        )
        raise Problem("idempotency-key-invalid", detail)
    return key
