"""How an HTTP request carries events: the four forms that POST /v1/events takes.

CloudEvents 1.0.2 (github.com/cloudevents/spec, bindings/http-protocol-binding.md): structured,
binary and batched; and a plain form of ours, in which the publisher says what happened and no more.
"""

import base64
import json
import re
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers

from api.errors import MOST_FLAWS
from api.preconditions import idempotency_key
from api.problems import Problem
from jobs.bus.envelope import ATTRIBUTES, NewEvent, complete_event, read_event
from jobs.bus.publishing import MOST_IN_BATCH
from jobs.errors import Flaw, InvalidSubmission

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
_PREFIX = "ce-"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FIELDS = ATTRIBUTES - {"specversion"}  # of the plain form


class Reading(NamedTuple):
    """What a request brings."""

    events: list[NewEvent]
    is_batch: bool


def read_events(headers: Headers, body: bytes, project_id: str) -> Reading:
    """The events of a request. InvalidSubmission; Problem 400 or 415 when it cannot be read."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == STRUCTURED:
        return Reading([read_event(_json(body))], is_batch=False)
    if media_type == BATCH:
        return Reading(_batch(_json(body)), is_batch=True)
    if media_type.startswith("application/cloudevents"):
        raise _unsupported("Of the CloudEvents formats JSON alone is spoken here")
    if "ce-specversion" in headers:
        return Reading([_binary(headers, body, media_type)], is_batch=False)
    if media_type != PLAIN:
        raise _unsupported("There are no ce- headers")
    return Reading([read_plain(_json(body), project_id, idempotency_key(headers))], is_batch=False)


def read_plain(document: Any, project_id: str, event_id: str | None = None) -> NewEvent:
    """An event of the plain form, or a whole one. `event_id` is its id, if it names none."""
    if isinstance(document, dict) and "specversion" not in document:
        unknown = [name for name in document if name not in _FIELDS]
        if unknown:
            flaws = [Flaw(f"#/{name}", "the plain form has no such field") for name in unknown]
            raise InvalidSubmission(*flaws[:MOST_FLAWS])
        return complete_event(document, project_id, event_id=event_id)
    return read_event(document)


def _batch(documents: Any) -> list[NewEvent]:
    if not isinstance(documents, list):
        raise InvalidSubmission(Flaw("#", "no JSON list"))
    if len(documents) > MOST_IN_BATCH:
        raise InvalidSubmission(Flaw("#", f"more than {MOST_IN_BATCH} events"))
    events: list[NewEvent] = []
    flaws: list[Flaw] = []
    for number, document in enumerate(documents):
        try:
            events.append(read_event(document, f"#/{number}"))
        except InvalidSubmission as error:
            flaws.extend(error.flaws)
    if flaws:
        raise InvalidSubmission(*flaws)
    return events


def _binary(headers: Headers, body: bytes, media_type: str) -> NewEvent:
    """Attributes are in headers, and the body is the data."""
    event: dict[str, Any] = {}
    for name, value in headers.items():
        if name.startswith(_PREFIX):
            attribute = name.removeprefix(_PREFIX)
            if attribute in {"data", "data_base64", "datacontenttype"} or attribute in event:
                _refuse(attribute, "no header of the binary form, or there twice")
            event[attribute] = _decoded(attribute, value)
    if content_type := headers.get("content-type"):
        event["datacontenttype"] = content_type
    try:
        return read_event({**event, **_data(body, media_type)})
    except InvalidSubmission as error:
        raise _in_headers(error) from None


def _data(body: bytes, media_type: str) -> dict[str, Any]:
    if not body:
        return {}
    if media_type == PLAIN or media_type.endswith("+json"):
        return {"data": _json(body)}
    if media_type.startswith("text/"):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(body).decode()}


def _decoded(attribute: str, value: str) -> str:
    """Quotes are taken off, then percents are decoded, both once (3.1.3.2)."""
    if quoted := _QUOTED.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        _refuse(attribute, "no UTF-8 behind the percents")


def _refuse(attribute: str, detail: str) -> NoReturn:
    raise _in_headers(InvalidSubmission(Flaw(f"#/{attribute}", detail)))


def _in_headers(error: InvalidSubmission) -> Problem:
    errors = []
    for flaw in error.flaws:
        name = flaw.pointer.removeprefix("#/")
        if name in {"datacontenttype", "data", "#"}:
            header = "content-type" if name == "datacontenttype" else None
        else:
            header = f"{_PREFIX}{name}"
        where = {"pointer": f"#/{header}", "in": "header"} if header else {"pointer": "#"}
        errors.append({**where, "detail": flaw.detail})
    detail = f"{errors[0]['pointer']}: {errors[0]['detail']}"
    return Problem("validation-failed", detail, errors=errors)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("bad-request", f"The body is no JSON document: {error}.") from None


def _unsupported(why: str) -> Problem:
    known = f"{PLAIN}, {STRUCTURED}, {BATCH}, or ce- headers beside any other media type"
    return Problem("unsupported-media-type", f"{why}; these are: {known}.")
