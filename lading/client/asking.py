"""What the verbs are made of: an address, what is sent there, and what the answer is read as."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from lading.client.calling import call, read, read_items
from lading.client.errors import NotFound, Unreachable
from lading.client.exchange import Answer, Call, Emit, Lost, Pause, Repeat, Request, Send, Series
from lading.client.trying import Trying

Model = TypeVar("Model", bound=BaseModel)

LONGEST_PREFERENCE = 30  # seconds; longer than that the server does not wait in one answer
PAGE = 200  # items; the server's largest
_JSON = {"Content-Type": "application/json"}


def place(*parts: object) -> str:
    """An address below /v1; of a thing that the server gave out, its id."""
    return "/v1/" + "/".join(quote(str(getattr(part, "id", part)), safe="") for part in parts)


def said(**values: Any) -> dict[str, Any]:
    """Those that are not None: what is left out, the server decides."""
    return {name: value for name, value in values.items() if value is not None}


class Asking:
    """The parts of verbs, with one patience: the seconds for which a call is sent again."""

    _patience: float

    def _ask(self, model: type[Model], path: str, **query: object) -> Call[Model]:
        """One thing that is there."""
        return read(model, (yield from self._get(path, query)))

    def _all(self, model: type[Model], path: str, **query: object) -> Call[list[Model]]:
        """A list that has no pages."""
        return read_items(model, (yield from self._get(path, query)))

    def _pages(
        self, model: type[Model], path: str, limit: int | None, query: Mapping[str, object]
    ) -> Series[Model]:
        """At most `limit` items of a list, page after page as they are needed."""
        left = math.inf if limit is None else limit
        cursor = None
        while left > 0:
            answer = yield from self._get(
                path, {**query, "limit": min(PAGE, left), **said(cursor=cursor)}
            )
            for item in read_items(model, answer):
                yield Emit(item)
                left -= 1
            cursor = json.loads(answer.body).get("next_cursor")
            if cursor is None:
                return

    def _tell(
        self,
        model: type[Model],
        path: str,
        document: Mapping[str, Any] | None = None,
        method: str = "POST",
    ) -> Call[Model]:
        """Something is so afterwards, however often it is said; what it is like then."""
        return read(model, (yield from self._send(method, path, document)))

    def _make(
        self, model: type[Model], path: str, document: Mapping[str, Any] | None = None
    ) -> Call[Model]:
        """Something is made or done anew: not sent again unless it is certain that it was not."""
        return read(model, (yield from self._send("POST", path, document, Repeat.IF_REFUSED)))

    def _make_once(
        self, path: str, document: Mapping[str, Any], key: str | None, wait: float = 0.0
    ) -> Call[Answer]:
        """A POST that makes one thing, however often it is sent: it has an idempotency key."""
        key = key or str(uuid4())
        headers = {**_JSON, "Idempotency-Key": key}
        preferred = min(math.ceil(wait), LONGEST_PREFERENCE)
        if preferred > 0:
            headers["Prefer"] = f"wait={preferred}"
        body = encode(document)
        request = Request("POST", path, (), body, headers, extra_wait=max(0, preferred))
        try:
            return (yield from call(request, self._patience))
        except Unreachable as error:
            error.add_note(f"Sent again with the idempotency key {key!r}, it is done once.")
            raise

    def _remove(self, path: str) -> Call[None]:
        """It is gone. That it was gone before is an error, unless an answer was lost on the way."""
        request, trying = Request("DELETE", path), Trying(self._patience)
        may_be_done = False
        while True:
            reply: Answer | Lost = yield Send(request)
            if isinstance(reply, Answer) and reply.is_success:
                return
            try:
                pause = trying.pause_after(request, reply)
            except NotFound:
                if may_be_done:
                    return
                raise
            may_be_done = True
            yield Pause(pause)

    def _get(self, path: str, query: Mapping[str, object]) -> Call[Answer]:
        given = tuple(
            (name, _text(name, value)) for name, value in query.items() if value is not None
        )
        return (yield from call(Request("GET", path, given), self._patience))

    def _send(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None,
        repeat: Repeat = Repeat.ALWAYS,
    ) -> Call[Answer]:
        body, headers = (None, {}) if document is None else (encode(document), _JSON)
        request = Request(method, path, (), body, headers, repeat=repeat)
        return (yield from call(request, self._patience))


def encode(document: Mapping[str, Any]) -> bytes:
    """JSON; ValueError when a value has none, as NaN, or half a surrogate pair."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, default=to_jsonable_python)
    return text.encode()


def _text(name: str, value: object) -> str:
    """A value of the query. ValueError: a time without an offset."""
    if isinstance(value, datetime):
        return aware(name, value).isoformat()
    return str(value)


def aware(name: str, moment: datetime) -> datetime:
    """The moment; ValueError unless it says where it is that time."""
    if moment.tzinfo is None:
        raise ValueError(f"{name} needs an offset: datetime(…, tzinfo=UTC)")
    return moment
