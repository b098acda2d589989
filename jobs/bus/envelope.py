"""A CloudEvent, read strictly: the attributes and the JSON format of CloudEvents 1.0.2.

Sources: github.com/cloudevents/spec, tag ce@v1.0.2, spec.md (attributes, types, size) and
formats/json-format.md. Our own bounds are narrower in length alone.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from uuid import UUID

from jobs import documents
from jobs.errors import Flaw, InvalidSubmission
from jobs.ids import uuid7
from lading.patterns import LENGTH as TYPE_LENGTH

MAX_EVENT_BYTES = 256 * 1024  # of JSON, as of a job's args; every CloudEvents hop carries 64 KiB
MAX_SOURCE_LENGTH = 1024  # characters, all ASCII: with the id it has to fit into an index
MAX_ID_BYTES = 512
MAX_TEXT_LENGTH = 1024  # of any other attribute
OWN_SOURCE = "/lading/"  # begins the sources of what Lading says itself
STANDARD = ("specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject")
ATTRIBUTES = frozenset({*STANDARD, "time", "data", "data_base64"})

_NAME = re.compile(r"[a-z0-9]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]|[\ufffe\uffff]")
_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*:")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - a media type's
_MEDIA_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[^"\\]*"))*\s*')
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


class NewEvent(NamedTuple):
    """An event that may be accepted."""

    id: UUID  #: ours
    source: str
    event_id: str
    type: str
    document: dict[str, Any]  #: the JSON format
    text: str  #: the same, as it is stored
    depth: int = 0  #: jobs in a row that led to it
    job_id: UUID | None = None  #: of a fact about a job's end: that job


def read_event(document: Any, pointer: str = "#") -> NewEvent:
    """The CloudEvent that a JSON document is. InvalidSubmission names the flaws below `pointer`."""
    if not isinstance(document, Mapping):
        raise InvalidSubmission(Flaw(pointer, "no JSON object"))
    # An attribute that is null is none (json-format.md, 2.2); data may be null.
    event = {key: value for key, value in document.items() if value is not None or key == "data"}
    if found := [*_flaws(event, pointer)]:
        raise InvalidSubmission(*found)
    if event["source"].startswith(OWN_SOURCE):
        raise InvalidSubmission(Flaw(f"{pointer}/source", f"{OWN_SOURCE} is Lading's own"))
    return stored(event, pointer)


def complete_event(
    document: Any, project_id: str, pointer: str = "#", event_id: str | None = None
) -> NewEvent:
    """As read_event, with what publishers of the plain form may leave out: all but the type."""
    if not isinstance(document, Mapping):
        raise InvalidSubmission(Flaw(pointer, "no JSON object"))
    usual = {
        "specversion": "1.0",
        "id": event_id or str(uuid7()),
        "source": f"/projects/{quote(project_id, safe='')}",
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if "data" in document:
        usual["datacontenttype"] = "application/json"
    given = {key: value for key, value in document.items() if value is not None or key == "data"}
    return read_event({**usual, **given}, pointer)


def stored(event: dict[str, Any], pointer: str = "#", depth: int = 0) -> NewEvent:
    """The event as it is stored. InvalidSubmission: too long, or PostgreSQL cannot keep it."""
    try:
        text = documents.encode(event)
    except documents.NotStorable as error:
        raise InvalidSubmission(Flaw(pointer, str(error))) from None
    if len(text.encode()) > MAX_EVENT_BYTES:
        raise InvalidSubmission(Flaw(pointer, f"longer than {MAX_EVENT_BYTES} bytes of JSON"))
    return NewEvent(uuid7(), event["source"], event["id"], event["type"], event, text, depth)


def _flaws(event: Mapping[str, Any], pointer: str) -> Iterator[Flaw]:
    for name in ("specversion", "id", "source", "type"):
        if name not in event:
            yield Flaw(f"{pointer}/{name}", "a CloudEvent needs it")
    for name, value in event.items():
        if name not in {"data", "data_base64"} and (wrong := _wrong_attribute(name, value)):
            escaped = str(name).replace("~", "~0").replace("/", "~1")
            yield Flaw(f"{pointer}/{escaped}", wrong)
    if "data_base64" in event:
        if "data" in event:
            yield Flaw(pointer, "data and data_base64 exclude each other")
        if not _is_base64(event["data_base64"]):
            yield Flaw(f"{pointer}/data_base64", "no Base64 (RFC 4648, 4)")


def _wrong_attribute(name: str, value: Any) -> str | None:
    if not _NAME.fullmatch(name):
        return "an attribute's name consists of lower-case letters a-z and digits"
    if name not in ATTRIBUTES:
        return _wrong_extension(value)
    if not isinstance(value, str) or not value:
        return "no text, or an empty one"
    if _UNPRINTABLE.search(value):
        return "holds characters that no attribute may: controls, surrogates, noncharacters"
    return _wrong_text(name, value)


def _wrong_text(name: str, value: str) -> str | None:  # noqa: PLR0911 - a rule a line
    match name:
        case "specversion":
            return None if value == "1.0" else "not 1.0, which is the version that is spoken here"
        case "id":
            is_short = len(value.encode()) <= MAX_ID_BYTES
            return None if is_short else f"longer than {MAX_ID_BYTES} bytes"
        case "source":
            return _wrong_uri(value, MAX_SOURCE_LENGTH)
        case "type":
            is_short = len(value) <= TYPE_LENGTH
            return None if is_short else f"longer than {TYPE_LENGTH} characters"
        case "time":
            return None if _is_time(value) else "no time as RFC 3339 writes it"
        case "dataschema":
            return _wrong_uri(value, MAX_TEXT_LENGTH, absolute=True)
        case "datacontenttype":
            fits = len(value) <= MAX_TEXT_LENGTH and _MEDIA_TYPE.fullmatch(value)
            return None if fits else "no media type (RFC 2046)"
    return None if len(value) <= MAX_TEXT_LENGTH else f"longer than {MAX_TEXT_LENGTH} characters"


def _wrong_extension(value: Any) -> str | None:
    """Boolean, Integer, or a text, which all other types are in JSON (json-format.md, 2.1)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if -(2**31) <= value < 2**31 else "no integer of 32 bits"
    if not isinstance(value, str):
        return "neither a text, nor an integer, nor a boolean"
    if _UNPRINTABLE.search(value):
        return "holds characters that no attribute may: controls, surrogates, noncharacters"
    return None if len(value) <= MAX_TEXT_LENGTH else f"longer than {MAX_TEXT_LENGTH} characters"


def _wrong_uri(value: str, longest: int, *, absolute: bool = False) -> str | None:
    if len(value) > longest:
        return f"longer than {longest} characters"
    if not _URI.fullmatch(value) or value.count("#") > 1 or not _parts_fit(value):
        return "no URI reference (RFC 3986)"
    if absolute and not _SCHEME.match(value):
        return "no absolute URI"
    return None


def _parts_fit(value: str) -> bool:
    try:
        urlsplit(value)
    except ValueError:
        return False
    has_scheme = _SCHEME.match(value) is not None
    return has_scheme or ":" not in re.split(r"[/?#]", value, maxsplit=1)[0]


def _is_time(value: str) -> bool:
    if not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _is_base64(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
